//! Send (LwM2M Core 1.1.1 §6.4.5).

use lwm2m_client::objects::format::Items;
use lwm2m_client::objects::{Content, Format, Path, path};
use lwm2m_client::{NotSent, Notice, Reason, ShortServerId};
use lwm2m_coap::Code;

use crate::world::{Note, Received, Script, World, account, account_with, server_instance};

const DM: u16 = 5683;
const VALUE: Path = path!("/3303/0/5700");

fn server() -> ShortServerId {
    ShortServerId::new(1).unwrap()
}

/// A device that is registered with a server that wants reports.
fn world() -> World {
    let mut world = World::new(&[account(1, DM, None)], vec![Script::new(DM)]);
    assert!(world.run_until(1, |world| world.is_registered(DM)));
    assert_eq!(world.write_text(DM, "/1/1/23", "0"), Code::CHANGED);
    world.run(2);
    world.notices.clear();
    world
}

/// What came to `/dp`.
fn reports(world: &mut World) -> Vec<Received> {
    world.server(DM).requests.iter().filter(|request| request.path == "/dp").cloned().collect()
}

fn paths(payload: &[u8]) -> Vec<Path> {
    let content = Content { format: Format::SENML_CBOR, payload };
    Items::new(&Path::ROOT.into(), content).unwrap().map(|item| item.unwrap().path).collect()
}

#[test]
fn values_are_reported_as_they_are() {
    let mut world = world();
    assert_eq!(world.client.send(server(), &[VALUE, path!("/3/0/16"), path!("/3/0/99")]), Ok(()));
    assert_eq!(world.client.send(server(), &[VALUE]), Err(NotSent::Busy));
    world.objects.temperature.celsius = 30.0;
    world.run(1);
    let [report] = reports(&mut world).try_into().unwrap();
    assert_eq!((report.code, report.format), (Code::POST, Some(112)));
    assert_eq!(paths(&report.payload), [VALUE, path!("/3/0/16")]);
    assert!(report.payload.windows(5).any(|bytes| bytes == b"\xfa\x41\xf0\x00\x00"));
    assert_eq!(world.notices, [Notice::Reported { server: server() }]);
    assert_eq!(world.client.send(server(), &[VALUE]), Ok(()));
    world.run(1);
    assert_eq!(reports(&mut world).len(), 2);
}

#[test]
fn a_long_report_goes_in_blocks_and_begins_again_when_values_change() {
    let mut world = world();
    let note = Note { text: "a long note ".repeat(40), ..Note::default() };
    world.objects.notes.list.insert(0, note);
    let places = [path!("/42800"), path!("/1"), VALUE, path!("/3303")];
    world.client.send(server(), &places).unwrap();
    world.run(5);
    let blocks = reports(&mut world);
    assert!(blocks.len() > 1, "{blocks:?}");
    assert!(blocks.iter().all(|block| block.tag == blocks[0].tag && block.tag.is_some()));
    let body: Vec<u8> = blocks.iter().flat_map(|block| block.payload.clone()).collect();
    assert!(paths(&body).contains(&VALUE));
    assert_eq!(world.notices, [Notice::Reported { server: server() }]);

    world.notices.clear();
    world.server(DM).requests.clear();
    world.client.send(self::server(), &places).unwrap();
    // The first block is on its way, its answer is not.
    world.server(DM).is_held = true;
    world.run(1);
    assert_eq!(reports(&mut world).len(), 1);
    world.objects.temperature.celsius = 31.0;
    let server = world.server(DM);
    server.is_held = false;
    server.release();
    world.run(5);
    let again = reports(&mut world);
    let begun = again.iter().filter(|block| block.payload == again[0].payload).count();
    assert_eq!((begun, again.len()), (2, blocks.len() + 1));
    assert_eq!(world.notices, [Notice::Reported { server: self::server() }]);
}

#[test]
fn a_report_that_is_refused_or_lost_is_told_and_not_repeated() {
    let mut world = world();
    world.server(DM).update_code = Code::BAD_REQUEST;
    world.client.send(server(), &[VALUE]).unwrap();
    world.run(300);
    assert_eq!(reports(&mut world).len(), 1);
    let reason = Reason::Refused(Code::BAD_REQUEST.as_u8());
    assert_eq!(world.notices, [Notice::NotReported { server: server(), reason }]);
    world.notices.clear();
    world.server(DM).update_code = Code::CHANGED;
    world.server(DM).is_dead = true;
    world.client.send(server(), &[VALUE]).unwrap();
    world.run(300);
    let told = world.notices.iter().filter(|notice| matches!(notice, Notice::NotReported { .. }));
    assert_eq!(told.count(), 1, "{:?}", world.notices);
}

#[test]
fn a_server_that_asks_for_proof_of_freshness_gets_the_report_again() {
    let mut world = world();
    world.server(DM).challenge = Some(vec![1, 2, 3]);
    world.client.send(server(), &[VALUE]).unwrap();
    world.run(5);
    let [first, second] = reports(&mut world).try_into().unwrap();
    assert_eq!((first.echo, second.echo), (None, Some(vec![1, 2, 3])));
    assert_eq!(first.payload, second.payload);
    assert_eq!(world.notices, [Notice::Reported { server: server() }]);
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    let mut world = World::new(&[account(1, DM, None)], vec![Script::new(DM)]);
    assert_eq!(world.client.send(server(), &[VALUE]), Err(NotSent::NotRegistered));
    assert!(world.run_until(1, |world| world.is_registered(DM)));
    // Not set is muted.
    assert_eq!(world.client.send(server(), &[VALUE]), Err(NotSent::Muted));
    assert_eq!(world.write_text(DM, "/1/1/23", "1"), Code::CHANGED);
    assert_eq!(world.client.send(server(), &[VALUE]), Err(NotSent::Muted));
    assert_eq!(world.write_text(DM, "/1/1/23", "0"), Code::CHANGED);
    assert_eq!(world.client.send(server(), &[]), Err(NotSent::Places));
    assert_eq!(world.client.send(server(), &[VALUE; 17]), Err(NotSent::Places));
    assert_eq!(world.client.send(ShortServerId::new(2).unwrap(), &[VALUE]), Err(NotSent::NotRegistered));
    assert!(reports(&mut world).is_empty());
}

#[test]
fn what_was_measured_is_reported_with_its_times_and_forgotten_when_it_has_arrived() {
    let mut world = world();
    world.objects.temperature.kept =
        vec![(1_700_000_000, 19.0), (1_700_000_060, 20.5), (1_700_000_120, 22.0)];
    world.client.send_dated(server(), &[path!("/3303"), path!("/3/0/16")], 1_700_000_060).unwrap();
    world.run(1);
    let [report] = reports(&mut world).try_into().unwrap();
    let content = Content { format: Format::SENML_CBOR, payload: &report.payload };
    let items = Items::new(&Path::ROOT.into(), content).unwrap().map(Result::unwrap);
    let told: Vec<_> = items.map(|item| (item.path, item.time())).collect();
    assert_eq!(told, [(VALUE, 1_700_000_000.0), (VALUE, 1_700_000_060.0), (path!("/3/0/16"), 0.0)]);
    assert_eq!(world.objects.temperature.kept, [(1_700_000_120, 22.0)]);

    // What did not arrive stays.
    world.server(DM).update_code = Code::BAD_REQUEST;
    world.client.send_dated(server(), &[VALUE], i64::MAX).unwrap();
    world.run(1);
    assert_eq!(world.objects.temperature.kept.len(), 1);
    // A value as it is tells of no time, and is no reason to forget.
    world.server(DM).update_code = Code::CHANGED;
    world.client.send(server(), &[VALUE]).unwrap();
    world.run(1);
    assert_eq!(world.objects.temperature.kept.len(), 1);
}

#[test]
fn a_report_that_changes_again_and_again_is_given_up() {
    let mut world = world();
    let note = Note { text: "a long note ".repeat(40), ..Note::default() };
    world.objects.notes.list.insert(0, note);
    world.client.send(server(), &[path!("/42800"), VALUE]).unwrap();
    world.server(DM).is_held = true;
    for celsius in 0..20 {
        world.objects.temperature.celsius = f64::from(celsius);
        world.run(1);
        world.server(DM).release();
    }
    assert_eq!(world.notices, [Notice::NotReported { server: server(), reason: Reason::Changing }]);
    assert_eq!(reports(&mut world).len(), 4);
}

#[test]
fn what_a_server_may_not_read_is_neither_reported_nor_forgotten() {
    let accounts = [1, 2].map(|id| {
        let mut server = server_instance(id, 86_400);
        server.set(23, Some(0));
        account_with(server, if id == 1 { DM } else { 1001 })
    });
    let mut world = World::new(&accounts, vec![Script::new(DM), Script::new(1001)]);
    assert!(world.run_until(5, |world| world.is_registered(DM) && world.is_registered(1001)));
    world.notices.clear();
    // With several servers and no rights given, none has any.
    assert_eq!(world.read(DM, "/3303/0/5700", Format::TEXT).code, Code::UNAUTHORIZED);
    world.objects.temperature.kept = vec![(1_700_000_000, 19.0)];
    world.client.send_dated(server(), &[VALUE], i64::MAX).unwrap();
    world.run(2);
    let [report] = reports(&mut world).try_into().unwrap();
    assert!(paths(&report.payload).is_empty());
    assert_eq!(world.notices, [Notice::Reported { server: server() }]);
    assert_eq!(world.objects.temperature.kept.len(), 1);
}
