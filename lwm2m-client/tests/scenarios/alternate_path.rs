//! Objects below an alternate path (LwM2M Core 1.1.1 §6.2.1).

use lwm2m_client::objects::{Arguments, Content, Format, Operation, Path, Target, Value, WriteMode, path};
use lwm2m_client::{AlternatePath, Client};
use lwm2m_coap::block::{Block, Szx};
use lwm2m_coap::{Code, OptionNumber};

use crate::world::{Note, Script, World, account, bootstrap_account, target, tlv};

const DM: u16 = 5683;
const BS: u16 = 5783;
const VALUE: Path = path!("/3303/0/5700");

/// A device whose objects lie below `/lwm2m`.
fn world_of(accounts: &[lwm2m_client::FactoryAccount<'_>], servers: Vec<Script>) -> World {
    let mut world = World::new(accounts, servers);
    world.config.alternate_path = AlternatePath::parse("/lwm2m");
    world.client = Client::new(world.config);
    world
}

fn world() -> World {
    let mut world = world_of(&[account(1, DM, None)], vec![Script::new(DM)]);
    assert!(world.run_until(1, |world| world.is_registered(DM)));
    world
}

fn below(path: &str) -> Target<'static> {
    Target { prefix: Some("lwm2m"), path: target(path).path }
}

fn set(world: &mut World, celsius: f64) {
    world.objects.temperature.celsius = celsius;
    world.client.changed(VALUE);
    world.run(1);
}

#[test]
fn it_is_announced_and_stands_before_every_object() {
    let mut world = world();
    let register = world.server(DM).requests[0].clone();
    assert_eq!(
        register.text(),
        "</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/1/1>,</lwm2m/3/0>,</lwm2m/3303>;ver=1.1,</lwm2m/3303/0>,</lwm2m/42800>"
    );
    world.objects.notes.list.insert(0, Note::default());
    world.client.changed(path!("/42800"));
    world.run(1);
    let update = world.server(DM).requests.last().unwrap().clone();
    assert_eq!(update.path, "/rd/r1");
    assert!(update.text().starts_with("</lwm2m>;rt=\"oma.lwm2m\","), "{}", update.text());
    assert!(update.text().ends_with(",</lwm2m/42800/0>"), "{}", update.text());
}

#[test]
fn what_lies_elsewhere_is_not_found() {
    let mut world = world();
    for prefix in [None, Some("other"), Some("lwm2m/lwm2m"), Some("lwm2"), Some("lwm2m2")] {
        let target = Target { prefix, path: VALUE };
        let content = Content { format: Format::TEXT, payload: b"1" };
        for operation in [
            Operation::Read { target, accept: None },
            Operation::Discover { target, depth: None },
            Operation::Observe { target, accept: None },
            Operation::Write { target, mode: WriteMode::Replace, content },
            Operation::Execute { target, arguments: Arguments::NONE },
            Operation::Delete { target },
        ] {
            assert_eq!(world.ask(DM, &operation).code, Code::NOT_FOUND, "{prefix:?} {operation:?}");
        }
    }
}

#[test]
fn every_operation_of_one_place_is_asked_below_it() {
    let mut world = world();
    let read = world.ask(DM, &Operation::Read { target: below("/3303/0/5700"), accept: None });
    assert_eq!(read.payload, b"\x81\xa2\x21\x72/lwm2m/3303/0/5700\x02\xfa\x41\xa0\x00\x00");
    let discover = world.ask(DM, &Operation::Discover { target: below("/3303/0/5700"), depth: None });
    assert_eq!(discover.text(), "</3303/0/5700>");
    let content = Content { format: Format::TEXT, payload: b"60" };
    let (target, mode) = (below("/1/1/2"), WriteMode::Replace);
    assert_eq!(world.ask(DM, &Operation::Write { target, mode, content }).code, Code::CHANGED);
    // A name with what stands before it, and one without.
    for (bytes, value) in
        [(&b"\x81\xa2\x00\x6c/lwm2m/1/1/2\x02\x07"[..], "7"), (b"\x81\xa2\x00\x66/1/1/2\x02\x08", "8")]
    {
        let content = Content { format: Format::SENML_CBOR, payload: bytes };
        assert_eq!(world.ask(DM, &Operation::Write { target, mode, content }).code, Code::CHANGED);
        let read = world.ask(DM, &Operation::Read { target, accept: Some(Format::TEXT) });
        assert_eq!(read.text(), value);
    }
    let (execute, arguments) = (below("/3/0/4"), Arguments::NONE);
    assert_eq!(world.ask(DM, &Operation::Execute { target: execute, arguments }).code, Code::CHANGED);
    assert_eq!(world.objects.device.reboots, 1);
    let payload = tlv("/42800/0", &[("0", Value::String("text"))]);
    let content = Content { format: Format::TLV, payload: &payload };
    let created = world.ask(DM, &Operation::Create { target: below("/42800"), content });
    // The location is a path in the data model.
    assert_eq!((created.code, created.location.join("/")), (Code::CREATED, "42800/0".to_owned()));
    assert_eq!(world.attributes(DM, "/lwm2m/42800/0", &["pmin=2"]), Code::CHANGED);
    let discover = world.ask(DM, &Operation::Discover { target: below("/42800/0"), depth: Some(0) });
    assert_eq!(discover.text(), "</42800/0>;pmin=2");
    assert_eq!(world.ask(DM, &Operation::Delete { target: below("/42800/0") }).code, Code::DELETED);
}

#[test]
fn an_opaque_is_streamed_below_it() {
    let mut world = world();
    world.objects.notes.list.insert(0, Note::default());
    let image: Vec<u8> = (0..2000_u16).map(|byte| byte as u8).collect();
    let mut code = Code::CONTINUE;
    for (number, chunk) in (0_u32..).zip(image.chunks(256)) {
        let is_more = number as usize * 256 + chunk.len() < image.len();
        let response = world.ask_with(DM, |writer| {
            writer.set_code(Code::PUT);
            writer.split(OptionNumber::URI_PATH, "lwm2m/42800/0/3", '/').unwrap();
            writer.uint(OptionNumber::CONTENT_FORMAT, 42).unwrap();
            writer.block1(Block::new(number, is_more, Szx::fitting(256)).unwrap()).unwrap();
            writer.payload(chunk).unwrap();
        });
        code = response.code;
    }
    assert_eq!(code, Code::CHANGED);
    assert_eq!(world.objects.notes.streamed, image);
}

#[test]
fn notifications_name_it() {
    let mut world = world();
    let observe = Operation::Observe { target: below("/3303/0/5700"), accept: Some(Format::SENML_CBOR) };
    assert_eq!(world.ask(DM, &observe).code, Code::CONTENT);
    set(&mut world, 30.0);
    let expected = b"\x81\xa2\x21\x72/lwm2m/3303/0/5700\x02\xfa\x41\xf0\x00\x00";
    assert_eq!(world.server(DM).notifications[0].payload, expected);
    let cancel = Operation::CancelObservation { target: below("/3303/0/5700"), accept: None };
    assert_eq!(world.ask(DM, &cancel).code, Code::CONTENT);
    set(&mut world, 31.0);
    assert_eq!(world.server(DM).notifications.len(), 1);
}

#[cfg(feature = "offline")]
#[test]
fn notifications_that_were_kept_name_it() {
    let mut world = world();
    let observe = Operation::Observe { target: below("/3303/0/5700"), accept: Some(Format::SENML_CBOR) };
    assert_eq!(world.ask(DM, &observe).code, Code::CONTENT);
    world.client.go_offline();
    set(&mut world, 30.0);
    world.client.go_online();
    world.run(2);
    let payload = world.server(DM).notifications[0].payload.clone();
    assert!(payload.windows(18).any(|name| name == b"/lwm2m/3303/0/5700"), "{payload:x?}");
}

#[cfg(feature = "composite")]
#[test]
fn composite_operations_name_it() {
    use lwm2m_client::objects::Paths;
    let mut world = world();
    let payload = b"\x82\xa1\x00\x72/lwm2m/3303/0/5700\xa1\x00\x6c/lwm2m/1/1/1";
    let content = Content { format: Format::SENML_CBOR, payload };
    let paths = Paths::Payload { prefix: Some("lwm2m"), content };
    let whole = b"\x82\xa3\x21\x67/lwm2m/\x00\x6b3303/0/5700\x02\xfa\x41\xa0\x00\x00\xa2\x00\x651/1/1\x02\x1a\x00\x01\x51\x80";
    let read = world.ask(DM, &Operation::ReadComposite { paths, accept: None });
    assert_eq!((read.code, read.payload.as_slice()), (Code::CONTENT, &whole[..]));
    let observed = world.ask(DM, &Operation::ObserveComposite { paths, accept: None });
    assert_eq!((observed.code, observed.payload.as_slice()), (Code::CONTENT, &whole[..]));
    let written = b"\x81\xa2\x00\x6c/lwm2m/1/1/1\x02\x18\x3c";
    let content = Content { format: Format::SENML_CBOR, payload: written };
    let write = Operation::WriteComposite { prefix: Some("lwm2m"), content };
    assert_eq!(world.ask(DM, &write).code, Code::CHANGED);
    world.run(1);
    let notified =
        b"\x82\xa3\x21\x67/lwm2m/\x00\x6b3303/0/5700\x02\xfa\x41\xa0\x00\x00\xa2\x00\x651/1/1\x02\x18\x3c";
    assert_eq!(world.server(DM).notifications[0].payload, notified);
}

#[cfg(feature = "send")]
#[test]
fn reports_name_it() {
    let mut world = world();
    let content = Content { format: Format::TEXT, payload: b"0" };
    let unmute = Operation::Write { target: below("/1/1/23"), mode: WriteMode::Replace, content };
    assert_eq!(world.ask(DM, &unmute).code, Code::CHANGED);
    world.client.send(lwm2m_client::ShortServerId::FIRST, &[VALUE]).unwrap();
    world.run(1);
    let report = world.server(DM).requests.last().unwrap().clone();
    assert_eq!(report.path, "/dp");
    assert_eq!(report.payload, b"\x81\xa3\x21\x67/lwm2m/\x00\x6b3303/0/5700\x02\xfa\x41\xa0\x00\x00");
}

#[test]
fn a_bootstrap_server_knows_nothing_of_it() {
    let mut world = world_of(&[bootstrap_account(BS, None)], vec![Script::new(BS), Script::new(DM)]);
    assert!(world.run_until(5, |world| !world.servers[0].requests.is_empty()));
    world.write_account(BS, 1, 1, DM, None);
    let discover = world.ask(BS, &Operation::BootstrapDiscover { path: path!("/1") });
    assert_eq!(discover.text(), "</>;lwm2m=1.1,</1/1>;ssid=1");
    let read = Operation::BootstrapRead { path: path!("/1/1"), accept: Some(Format::SENML_CBOR) };
    let payload = world.ask(BS, &read).payload;
    assert_eq!(&payload[2..9], b"\x21\x65/1/1/", "{payload:x?}");
    assert_eq!(world.finish(BS), Code::CHANGED);
    assert!(world.run_until(5, |world| world.count_of(DM) == 1));
    let register = world.server(DM).requests[0].clone();
    assert!(register.text().starts_with("</lwm2m>;rt=\"oma.lwm2m\",</lwm2m/1/1>"), "{}", register.text());
}
