//! Bootstrap profiles as devices meet them: what each says is what is sent, byte for byte as its preview, and the bootstrap account is
//! spared whatever a device shows.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]

mod support;

use std::sync::Arc;

use lwm2m_coap::{Code, OptionNumber};
use lwm2m_objects::format::Items;
use lwm2m_objects::{Content, Format, Kind, Path};
use lwm2m_server::credentials::{
    Assign, Credentials, Enrol, EnrolAccount, Key, KeyMaterial, Mode, OperatorError, Profile, Role, Settings,
    State,
};
use lwm2m_server::endpoint::{Listener, preview};
use lwm2m_server::profiles::{Fault, Secrets, Variables};
use lwm2m_server::store::{RedbStore, Sealer, Store};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use support::{Device, Got, KEY, World};

/// The bootstrap account is at `/0/1`.
const FOUND: &[u8] =
    b"</>;lwm2m=1.1,</0/1>,</0/0>;ssid=9;uri=\"coaps://x\",</1/0>;ssid=9,</3/0>,</3303/0>,</3303/4>";

fn put(world: &World, name: &str, body: Json) -> (u32, bool) {
    try_put(&world.credentials, name, body).unwrap()
}

fn try_put(credentials: &Credentials, name: &str, body: Json) -> Result<(u32, bool), OperatorError> {
    let body = serde_json::from_value(body).unwrap();
    credentials.put_profile(5, "test", name, body, Arc::default())
}

fn assigned(name: &str, variables: &[(&str, &str)], secrets: &[(&str, u8)]) -> Assign {
    let variables: Variables =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut keys = Secrets::default();
    for (name, byte) in secrets {
        keys.insert((*name).to_owned(), Key::new(vec![*byte; 16]).unwrap());
    }
    Assign { name: name.to_owned(), version: None, variables, secrets: keys }
}

/// A device with both accounts that follows a profile of this body.
fn following(body: Json) -> World {
    let mut world = World::new(false);
    world.enrol("a", Role::Management);
    world.enrol("a", Role::Bootstrap);
    put(&world, "p", body);
    world.credentials.assign(6, "test", "a", &assigned("p", &[], &[])).unwrap();
    world
}

fn ask_for_bootstrap(world: &mut World) -> Device {
    let mut device = Device::secure(world, Listener::BootstrapCoaps, 40_000, "a-bootstrap", &KEY);
    assert!(device.established);
    let answer = device.request(world, Code::POST, "bs?ep=a&pct=11542", b"").unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    world.told();
    device
}

fn step(asked: &Got) -> String {
    format!("{}.{:02} {}", asked.code.class(), asked.code.detail(), asked.uri())
}

/// Has the device bootstrapped, which answers as `play` says, and everything else with consent; what it was asked.
fn played(world: &mut World, mut play: impl FnMut(&str) -> Option<(Code, &'static [u8])>) -> Vec<Got> {
    let mut device = ask_for_bootstrap(world);
    let mut all = Vec::new();
    while let Some(mut asked) = device.got.pop_front() {
        // What is long comes in blocks.
        let block = asked.option(OptionNumber::BLOCK1).map(<[u8]>::to_vec);
        if let Some(block) = &block {
            let number = block.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
            if number >> 4 > 0 {
                let before: Got = all.pop().unwrap();
                asked.payload = [before.payload, asked.payload].concat();
            }
            if number & 8 != 0 {
                let options = [(OptionNumber::BLOCK1, block.as_slice())];
                device.answer(world, &asked, Code::new(2, 31), &options, b"");
                all.push(asked);
                continue;
            }
        }
        let agreed = match asked.code {
            Code::GET => (Code::CONTENT, FOUND),
            Code::DELETE => (Code::DELETED, &b""[..]),
            _ => (Code::CHANGED, &b""[..]),
        };
        let (code, body) = play(&step(&asked)).unwrap_or(agreed);
        let link = (OptionNumber::CONTENT_FORMAT, &[40_u8][..]);
        let mut options = Vec::new();
        if !body.is_empty() {
            options.push(link);
        }
        options.extend(block.as_ref().map(|block| (OptionNumber::BLOCK1, block.as_slice())));
        device.answer(world, &asked, code, &options, body);
        all.push(asked);
    }
    all
}

fn steps(asked: &[Got]) -> Vec<String> {
    asked.iter().map(step).collect()
}

fn agreeing(world: &mut World) -> Vec<Got> {
    let asked = played(world, |_| None);
    assert_eq!(world.told(), ["bootstrap finished a"]);
    asked
}

fn at(text: &str) -> Path {
    text.parse().unwrap()
}

/// The value at a path in what was written, as bytes or text.
fn written(asked: &[Got], path: &str, kind: Kind) -> Option<String> {
    for asked in asked.iter().filter(|asked| asked.code == Code::PUT) {
        let target = at(&asked.uri());
        let content = Content { format: Format::TLV, payload: &asked.payload };
        for item in Items::new(&target.into(), content).unwrap().map(Result::unwrap) {
            if item.path == at(path) {
                let mut scratch = vec![0; item.raw.scratch_len()];
                return Some(format!("{:?}", item.raw.value(kind, &mut scratch).unwrap()));
            }
        }
    }
    None
}

/// Of everything something.
fn rich() -> Json {
    json!({
        "server_uri": "coaps://${site}.example:5684", "lifetime": 60, "binding": "UQ",
        "servers": [
            { "short_server_id": 9, "uri": "coaps://data.example", "security": "psk",
              "identity": "${endpoint}-data", "key": "${data_key}", "lifetime": 30 },
            { "short_server_id": 12, "uri": "coap://${site}.open.example", "security": "nosec" },
        ],
        "access_control": [
            { "object": 3303, "instance": 0, "owner": 1, "acl": { "9": ["read", "write"], "0": ["read"] } },
            { "object": 3303, "acl": { "9": ["create"] } },
        ],
        "delete": ["/3303/4", "/3303/5", "/16"],
        "write": [
            { "path": "/3303/0", "value": { "resources": { "5700": 21.5, "5750": "in ${site}" } } },
            { "path": "/3/0/15", "value": "Europe/Berlin" },
        ],
    })
}

fn rich_world(body: Json) -> World {
    let mut world = World::new(false);
    world.enrol("a", Role::Management);
    world.enrol("a", Role::Bootstrap);
    put(&world, "rich", body);
    let assign = assigned("rich", &[("site", "kiel")], &[("data_key", 0x5a)]);
    world.credentials.assign(6, "test", "a", &assign).unwrap();
    world
}

fn with(mut body: Json, more: Json) -> Json {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a_profile_is_carried_out_in_its_order() {
    let mut world = rich_world(rich());
    let asked = agreeing(&mut world);
    assert_eq!(
        steps(&asked),
        [
            "0.01 ",
            "0.04 /3303/4",
            "0.03 /0/2",
            "0.03 /1/1",
            // The account of server 9 is there already.
            "0.03 /0/0",
            "0.03 /1/0",
            "0.03 /0/3",
            "0.03 /1/2",
            "0.03 /2/0",
            "0.03 /2/1",
            "0.03 /3303/0",
            "0.03 /3/0/15",
            "0.02 /bs"
        ],
        "the device shows neither /3303/5 nor /16"
    );
    for (path, kind, value) in [
        ("/0/2/0", Kind::String, r#"String("coaps://kiel.example:5684")"#),
        ("/1/1/1", Kind::Integer, "Integer(60)"),
        ("/1/1/7", Kind::String, r#"String("UQ")"#),
        ("/0/0/0", Kind::String, r#"String("coaps://data.example")"#),
        ("/0/0/1", Kind::Boolean, "Boolean(false)"),
        ("/0/0/2", Kind::Integer, "Integer(0)"),
        ("/0/0/3", Kind::String, r#"String("a-data")"#),
        ("/0/0/10", Kind::Integer, "Integer(9)"),
        ("/1/0/0", Kind::Integer, "Integer(9)"),
        ("/1/0/1", Kind::Integer, "Integer(30)"),
        ("/0/3/0", Kind::String, r#"String("coap://kiel.open.example")"#),
        ("/0/3/2", Kind::Integer, "Integer(3)"),
        ("/1/2/0", Kind::Integer, "Integer(12)"),
        ("/1/2/1", Kind::Integer, "Integer(86400)"),
        ("/2/0/0", Kind::Integer, "Integer(3303)"),
        ("/2/0/1", Kind::Integer, "Integer(0)"),
        ("/2/0/2/0", Kind::Integer, "Integer(1)"),
        ("/2/0/2/9", Kind::Integer, "Integer(3)"),
        ("/2/0/3", Kind::Integer, "Integer(1)"),
        ("/2/1/1", Kind::Integer, "Integer(65535)"),
        ("/2/1/2/9", Kind::Integer, "Integer(16)"),
        ("/2/1/3", Kind::Integer, "Integer(65535)"),
        ("/3303/0/5700", Kind::Float, "Float(21.5)"),
        ("/3303/0/5750", Kind::String, r#"String("in kiel")"#),
        ("/3/0/15", Kind::String, r#"String("Europe/Berlin")"#),
    ] {
        assert_eq!(written(&asked, path, kind).as_deref(), Some(value), "{path}");
    }
    let keyed = asked.iter().find(|asked| asked.uri() == "/0/0").unwrap();
    assert!(
        keyed.payload.windows(16).any(|bytes| bytes == [0x5a; 16]),
        "the key that was given is delivered"
    );
}

#[test]
fn a_device_is_sent_byte_for_byte_what_the_preview_shows() {
    for write_by in ["instance", "object", "resource"] {
        for discover in ["first", "never"] {
            for format in ["tlv", "senml-cbor", "senml-json"] {
                let body = with(
                    rich(),
                    json!({ "write_by": write_by, "discover": discover,
                            "quirks": { "format": format, "verify": discover == "first" } }),
                );
                let mut world = rich_world(body);
                let plan = world.credentials.preview(world.now.as_millis(), "a").unwrap().plan;
                let previewed = preview(plan, Some(11542), FOUND, world.now.as_millis()).unwrap();
                const DONE: &[u8] =
                    b"</0/1>,</0/2>;ssid=1,</0/0>;ssid=9,</0/3>;ssid=12,</1/1>;ssid=1,</1/0>;ssid=9,\
                                      </1/2>;ssid=12";
                let mut discovers = 0;
                let asked = played(&mut world, |step| {
                    discovers = u8::saturating_add(discovers, u8::from(step == "0.01 "));
                    (step == "0.01 " && discovers > 1).then_some((Code::CONTENT, DONE))
                });
                assert_eq!(world.told(), ["bootstrap finished a"]);
                let shown: Vec<_> = previewed
                    .iter()
                    .map(|request| {
                        let method = match request.operation {
                            "Bootstrap-Discover" => "0.01",
                            "Bootstrap-Write" => "0.03",
                            "Bootstrap-Delete" => "0.04",
                            "Bootstrap-Finish" => "0.02",
                            other => unreachable!("{other}"),
                        };
                        let path = match request.path {
                            None => "/bs".to_owned(),
                            Some(Path::ROOT) => String::new(),
                            Some(path) => path.to_string(),
                        };
                        (format!("{method} {path}"), request.format, request.payload.clone())
                    })
                    .collect();
                let sent: Vec<_> = asked
                    .iter()
                    .map(|asked| {
                        let format = asked.option(OptionNumber::CONTENT_FORMAT);
                        let format =
                            format.map(|bytes| bytes.iter().fold(0, |all, byte| all << 8 | u16::from(*byte)));
                        (step(asked), format, asked.payload.clone())
                    })
                    .collect();
                assert_eq!(sent, shown, "{write_by} {discover} {format}");
            }
        }
    }
}

#[test]
fn the_place_of_accounts_alone_depends_on_a_discover_and_no_key_is_shown() {
    let world = rich_world(rich());
    let plan = world.credentials.preview(world.now.as_millis(), "a").unwrap().plan;
    let previewed = preview(plan, None, FOUND, world.now.as_millis()).unwrap();
    for request in &previewed {
        let path = request.path.map(|path| path.to_string()).unwrap_or_default();
        let is_of_account = path.starts_with("/0/") || path.starts_with("/1/");
        assert_eq!(request.is_placed, is_of_account || path.starts_with("/3303/4"), "{path}");
    }
    let text = format!("{previewed:?}");
    assert!(text.contains("Hidden(16)") && text.contains("in kiel"), "{text}");
    assert!(!text.contains("90, 90"), "{text}");
    let blind = rich_world(with(rich(), json!({ "discover": "never" })));
    let plan = blind.credentials.preview(blind.now.as_millis(), "a").unwrap().plan;
    let previewed = preview(plan, None, b"", blind.now.as_millis()).unwrap();
    assert!(previewed.iter().all(|request| !request.is_placed));
}

#[test]
fn a_profile_writes_by_object_or_by_resource() {
    let mut world = rich_world(with(rich(), json!({ "write_by": "object" })));
    let asked = agreeing(&mut world);
    assert_eq!(
        steps(&asked),
        ["0.01 ", "0.04 /3303/4", "0.03 /0", "0.03 /1", "0.03 /2", "0.03 /3303", "0.03 /3", "0.02 /bs"]
    );
    assert_eq!(written(&asked, "/0/2/10", Kind::Integer).as_deref(), Some("Integer(1)"));
    assert_eq!(written(&asked, "/0/3/10", Kind::Integer).as_deref(), Some("Integer(12)"));
    assert_eq!(written(&asked, "/0/1/1", Kind::Boolean), None, "nothing is written of the bootstrap account");

    let mut world = rich_world(with(rich(), json!({ "write_by": "resource" })));
    let asked = agreeing(&mut world);
    let all = steps(&asked);
    let ours = [
        "0.03 /0/2/0",
        "0.03 /0/2/1",
        "0.03 /0/2/2",
        "0.03 /0/2/3",
        "0.03 /0/2/4",
        "0.03 /0/2/5",
        "0.03 /0/2/10",
    ];
    assert_eq!(all[2..9], ours);
    assert_eq!(all[9..13], ["0.03 /1/1/0", "0.03 /1/1/1", "0.03 /1/1/6", "0.03 /1/1/7"]);
    // A resource with several instances is one.
    assert!(
        all.contains(&"0.03 /2/0/2".to_owned()) && !all.iter().any(|step| step.starts_with("0.03 /2/0/2/"))
    );
    assert_eq!(written(&asked, "/2/0/2/9", Kind::Integer).as_deref(), Some("Integer(3)"));
}

#[test]
fn written_blind_a_device_is_not_asked_and_the_accounts_are_beside_each_other() {
    let body = json!({
        "discover": "never", "security_instance": 3, "server_instance": 2,
        "servers": [
            { "short_server_id": 9, "uri": "coap://a.example", "security": "nosec" },
            { "short_server_id": 8, "uri": "coap://b.example", "security": "nosec",
              "security_instance": 7, "server_instance": 6 },
        ],
    });
    let mut world = following(body);
    let asked = agreeing(&mut world);
    let expected = ["0.03 /0/3", "0.03 /1/2", "0.03 /0/1", "0.03 /1/0", "0.03 /0/7", "0.03 /1/6", "0.02 /bs"];
    assert_eq!(steps(&asked), expected, "/0/0 is left to the bootstrap account");
}

#[test]
fn the_departures_of_a_device_win_over_its_profile() {
    let mut world = following(json!({ "discover": "never", "lifetime": 60, "binding": "UQ" }));
    let profile = Profile { lifetime: Some(7), write_blind: Some(false), ..Profile::default() };
    let enrol = Enrol { profile: Some(profile), ..Enrol::default() };
    world.credentials.enrol(7, "test", "a", &enrol).unwrap();
    let asked = agreeing(&mut world);
    assert_eq!(steps(&asked), ["0.01 ", "0.03 /0/2", "0.03 /1/1", "0.02 /bs"]);
    assert_eq!(written(&asked, "/1/1/1", Kind::Integer).as_deref(), Some("Integer(7)"));
    assert_eq!(written(&asked, "/1/1/7", Kind::String).as_deref(), Some(r#"String("UQ")"#));
}

#[test]
fn quirks_leave_out_what_devices_do_not_take() {
    let body = json!({
        "retry": { "count": 3, "timer": 4 },
        "quirks": { "leave_out": ["/1/x/17"], "leave_out_empty": true, "write_time": true },
        "servers": [{ "short_server_id": 9, "uri": "coap://a.example", "security": "nosec" }],
    });
    let mut world = following(body);
    let asked = agreeing(&mut world);
    assert_eq!(written(&asked, "/1/1/17", Kind::Integer), None);
    assert_eq!(written(&asked, "/1/1/18", Kind::Integer).as_deref(), Some("Integer(4)"));
    assert_eq!(
        written(&asked, "/0/2/4", Kind::Opaque),
        None,
        "a pre-shared key goes without the server's public key"
    );
    assert!(written(&asked, "/0/2/5", Kind::Opaque).is_some());
    for resource in [3, 4, 5] {
        assert_eq!(written(&asked, &format!("/0/0/{resource}"), Kind::Opaque), None, "{resource}");
    }
    assert_eq!(steps(&asked).iter().rev().nth(1).unwrap(), "0.03 /3/0/13");
}

#[test]
fn a_write_that_is_refused_fails_the_bootstrap_and_says_which_and_nothing_of_the_credential_changes() {
    let mut world = rich_world(rich());
    let asked = played(&mut world, |step| (step == "0.03 /3303/0").then_some((Code::BAD_REQUEST, b"")));
    assert_eq!(steps(&asked).last().unwrap(), "0.03 /3303/0");
    assert_eq!(world.told(), ["bootstrap failed a: Bootstrap-Write /3303/0 4.00"]);
    let device = world.credentials.device("a").unwrap();
    let account = device.management.as_ref().unwrap();
    assert_eq!(account.note.as_deref(), Some("the device answered 4.00 to Bootstrap-Write /3303/0"));
    assert_eq!((&account.state, account.current), (&State::Armed, 1));
    assert!(device.accepts(Role::Management, 1).is_ok());
    assert_eq!(device.applied, None);
}

#[test]
fn what_was_applied_last_is_known_once_the_device_has_acknowledged_it() {
    let mut world = following(json!({ "lifetime": 60 }));
    agreeing(&mut world);
    let applied = world.credentials.device("a").unwrap().applied.clone().unwrap();
    assert_eq!((applied.name.as_str(), applied.version), ("p", 1));
    let rows = world.credentials.audit(Some("a"), None, 100).unwrap();
    assert!(
        rows.iter().any(|row| row.what == "delivered" && row.detail.ends_with("by the profile p, version 1"))
    );
    world.credentials.unassign(9, "test", "a").unwrap();
    let device = world.credentials.device("a").unwrap();
    assert_eq!((&device.assigned, device.applied.as_deref()), (&None, Some(&*applied)));
    // Without one nothing is applied that could take its place.
    agreeing(&mut world);
    assert_eq!(world.credentials.device("a").unwrap().applied, Some(applied));
}

#[test]
fn a_device_stays_with_its_version_while_there_is_a_newer_one() {
    let mut world = following(json!({ "lifetime": 60 }));
    assert_eq!(
        put(&world, "p", json!({ "lifetime": 60 })),
        (1, false),
        "what it says already is no new version"
    );
    assert_eq!(put(&world, "p", json!({ "lifetime": 90 })), (2, true));
    let lifetime = |asked: &[Got]| written(asked, "/1/1/1", Kind::Integer).unwrap();
    assert_eq!(lifetime(&agreeing(&mut world)), "Integer(60)");
    let pinned = Assign { version: Some(2), ..assigned("p", &[], &[]) };
    world.credentials.assign(8, "test", "a", &pinned).unwrap();
    assert_eq!(lifetime(&agreeing(&mut world)), "Integer(90)");
    // An older one is as good.
    let pinned = Assign { version: Some(1), ..pinned };
    world.credentials.assign(9, "test", "a", &pinned).unwrap();
    assert_eq!(lifetime(&agreeing(&mut world)), "Integer(60)");
}

#[test]
fn a_profile_deletes_the_accounts_that_a_device_shows_and_never_its_bootstrap_account() {
    const MANY: &[u8] = b"</0/1>,</0/0>;ssid=9,</0/2>;ssid=8,</0/3>;ssid=8,</1/0>;ssid=9,</1/5>;ssid=8,</21/1>,</21/2>;ssid=8,</3/0>";
    let mut world = following(json!({ "delete": ["/0", "/1", "/21"] }));
    let asked = played(&mut world, |step| (step == "0.01 ").then_some((Code::CONTENT, MANY)));
    assert_eq!(world.told(), ["bootstrap finished a"]);
    let deleted: Vec<String> = steps(&asked).into_iter().filter(|step| step.starts_with("0.04")).collect();
    assert_eq!(deleted, ["0.04 /0/0", "0.04 /0/2", "0.04 /0/3", "0.04 /1", "0.04 /21/2"]);

    for (delete, found, why) in [
        ("/0/1", FOUND, "with its bootstrap account at an instance that the profile deletes"),
        (
            "/0",
            &b"</0/0>;ssid=9,</1/0>;ssid=9"[..],
            "without its bootstrap account, which nothing of /0 and /21 is deleted without",
        ),
    ] {
        let mut world = following(json!({ "delete": [delete] }));
        let asked = played(&mut world, |step| (step == "0.01 ").then_some((Code::CONTENT, found)));
        assert_eq!(steps(&asked), ["0.01 "], "{delete}");
        assert_eq!(world.told(), [format!("bootstrap failed a: Bootstrap-Discover / 2.05, {why}")]);
    }
    // One that cannot say where it is.
    let mut world = following(json!({ "delete": ["/0/3"] }));
    let asked = played(&mut world, |step| (step == "0.01 ").then_some((Code::METHOD_NOT_ALLOWED, b"")));
    assert_eq!(steps(&asked), ["0.01 "]);
    assert!(world.told()[0].starts_with("bootstrap failed a: Bootstrap-Discover / 4.05, without"));
}

#[test]
fn what_was_deleted_is_not_deleted_again_when_a_write_is_repeated_in_the_other_format() {
    let mut world = rich_world(rich());
    let mut refusals = 0;
    let asked = played(&mut world, |step| {
        (step == "0.03 /1/1" && refusals == 0).then(|| {
            refusals = 1;
            (Code::UNSUPPORTED_CONTENT_FORMAT, &b""[..])
        })
    });
    assert_eq!(world.told(), ["bootstrap finished a"]);
    let all = steps(&asked);
    assert_eq!(all.iter().filter(|step| step.starts_with("0.04")).count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|step| *step == "0.03 /0/2").count(), 2, "{all:?}");
    assert_eq!(all.iter().filter(|step| *step == "0.03 /3303/0").count(), 1, "{all:?}");
}

#[test]
fn after_a_4_06_the_account_of_this_server_is_corrected_alone() {
    let mut world = rich_world(rich());
    let mut finishes = 0;
    let asked = played(&mut world, |step| {
        (step == "0.02 /bs" && finishes == 0).then(|| {
            finishes = 1;
            (Code::NOT_ACCEPTABLE, &b""[..])
        })
    });
    assert_eq!(world.told(), ["bootstrap finished a"]);
    let all = steps(&asked);
    let first = all.iter().position(|step| step == "0.02 /bs").unwrap();
    assert_eq!(all[first..], ["0.02 /bs", "0.01 ", "0.03 /0/2", "0.03 /1/1", "0.02 /bs"]);
}

#[test]
fn doubles_of_the_accounts_of_other_servers_are_deleted_before_these_are_written() {
    const DOUBLES: &[u8] = b"</0/0>,</0/1>;ssid=9,</0/2>;ssid=9,</1/0>;ssid=9,</1/3>;ssid=9,</3/0>";
    let body =
        json!({ "servers": [{ "short_server_id": 9, "uri": "coap://a.example", "security": "nosec" }] });
    let mut world = following(body);
    let asked = played(&mut world, |step| (step == "0.01 ").then_some((Code::CONTENT, DOUBLES)));
    assert_eq!(
        steps(&asked),
        ["0.01 ", "0.04 /0/2", "0.04 /1/3", "0.03 /0/3", "0.03 /1/1", "0.03 /0/1", "0.03 /1/0", "0.02 /bs"]
    );
}

#[test]
fn a_verified_bootstrap_wants_to_see_every_account_that_was_written() {
    let body = json!({
        "quirks": { "verify": true },
        "servers": [{ "short_server_id": 9, "uri": "coap://a.example", "security": "nosec" }],
    });
    for (shown, told) in [
        (&b"</0/1>,</0/2>;ssid=1,</1/1>;ssid=1,</0/0>;ssid=9,</1/0>;ssid=9"[..], "bootstrap finished a"),
        (
            b"</0/1>,</0/2>;ssid=1,</1/1>;ssid=1,</0/0>;ssid=9",
            "bootstrap failed a: Bootstrap-Discover / after the writes 2.05",
        ),
    ] {
        let mut world = following(body.clone());
        let mut discovers = 0;
        played(&mut world, |step| {
            discovers = u8::saturating_add(discovers, u8::from(step == "0.01 "));
            (step == "0.01 " && discovers == 2).then_some((Code::CONTENT, shown))
        });
        assert_eq!(world.told(), [told]);
    }
}

fn faults(result: Result<impl std::fmt::Debug, OperatorError>) -> Vec<Fault> {
    match result.unwrap_err() {
        OperatorError::Faults(faults) => faults,
        other => unreachable!("{other}"),
    }
}

fn places(faults: &[Fault]) -> Vec<&str> {
    faults.iter().map(|fault| fault.at.as_str()).collect()
}

#[test]
fn everything_that_is_wrong_with_a_profile_is_told_at_once_and_where() {
    let world = World::new(false);
    let body = json!({
        "server_uri": "coap://plain.example", "binding": "X", "certificate_usage": 4, "security_instance": 65535,
        "quirks": { "leave_out": ["/0/x/10"] },
        "servers": [
            { "short_server_id": 1, "uri": "coaps://a.example", "security": "nosec" },
            { "short_server_id": 5, "uri": "coaps://", "security": "psk", "identity": "i", "key": "0011223344556677" },
            { "short_server_id": 5, "uri": "coaps://b.example", "security": "psk", "security_instance": 3 },
            { "short_server_id": 65535, "uri": "coap://c.example:99999", "security": "nosec", "security_instance": 3,
              "server_instance": 0, "identity": "i" },
        ],
        "access_control": [
            { "object": 3, "instance": 0, "owner": 77, "acl": { "6": ["create"] } },
            { "object": 3, "instance": 0, "acl": { "x": ["read"] } },
            { "object": 2, "acl": { "0": ["read"] } },
        ],
        "delete": ["/", "/3/0", "/24", "/16/0", "/16"],
        "write": [
            { "path": "/0/1/0", "value": "x" },
            { "path": "/2/0/3", "value": 1 },
            { "path": "/3303/0/5700", "value": "warm" },
            { "path": "/3303/0/5700", "value": 1 },
            { "path": "/3303/0", "value": { "resources": { "5601": 2.0 } } },
            { "path": "/4711/0/1", "value": 1 },
            { "path": "/3/0/4", "value": { "type": "integer", "value": 1 } },
            { "path": "/3/0/9", "value": 101 },
            { "path": "/3/0/6", "value": 1 },
            { "path": "/3/0/9999", "value": 1 },
            { "path": "/3/1/14", "value": "x" },
            { "path": "/12/0/17", "value": "00" },
            { "path": "/3", "value": 1 },
            { "path": "/3/0/14", "value": "${Bad}" },
        ],
    });
    let faults = faults(try_put(&world.credentials, "p", body));
    let text: Vec<String> = faults.iter().map(Fault::to_string).collect();
    let mut found = places(&faults);
    found.sort_unstable();
    let mut expected = vec![
        "access_control[0].acl.6",
        "access_control[0].acl.6",
        "access_control[0].owner",
        "access_control[1]",
        "access_control[1].acl.x",
        "access_control[2].acl.0",
        "access_control[2].object",
        "binding",
        "certificate_usage",
        "delete[0]",
        "delete[1]",
        "delete[2]",
        "delete[4]",
        "quirks.leave_out[0]",
        "security_instance",
        "server_uri",
        "servers[0].short_server_id",
        "servers[0].uri",
        "servers[1].key",
        "servers[1].uri",
        "servers[2].identity",
        "servers[2].key",
        "servers[2].short_server_id",
        "servers[3].identity",
        "servers[3].security_instance",
        "servers[3].server_instance",
        "servers[3].short_server_id",
        "servers[3].uri",
        "write[0].path",
        "write[1].path",
        "write[10].path",
        "write[11].value",
        "write[12].value",
        "write[13].value",
        "write[2].value",
        "write[4].path",
        "write[5].path",
        "write[6].value",
        "write[7].value",
        "write[8].value",
        "write[9].value",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected, "{text:#?}");
    assert!(!text.concat().contains("0011223344556677"), "what may be a key is not repeated: {text:?}");
    assert!(world.credentials.profiles().find("p", None).is_none());
}

#[test]
fn a_profile_is_bounded() {
    let world = World::new(false);
    let server = |id: u16| json!({ "short_server_id": id, "uri": "coap://a.example", "security": "nosec" });
    let write = |instance: u16| json!({ "path": format!("/3303/{instance}/5700"), "value": 1 });
    for (body, places) in [
        (json!({ "servers": (2..19).map(server).collect::<Vec<_>>() }), ["servers"]),
        (json!({ "write": (0..257).map(write).collect::<Vec<_>>() }), ["write"]),
        (json!({ "delete": (100..165).map(|id| format!("/{id}")).collect::<Vec<_>>() }), ["delete"]),
        (json!({ "write": [{ "path": "/3303/0/5750", "value": "x".repeat(65_536) }] }), [""]),
    ] {
        let faults = faults(try_put(&world.credentials, "p", body));
        assert_eq!(faults.iter().map(|fault| fault.at.as_str()).collect::<Vec<_>>(), places);
    }
    put(&world, "p", json!({ "write": (0..256).map(write).collect::<Vec<_>>() }));
}

#[test]
fn deletes_that_would_hit_the_bootstrap_account_are_refused_before_any_device_follows() {
    let world = World::new(false);
    for delete in ["/0", "/0/1", "/21", "/21/0", "/23", "/24/1"] {
        let blind = try_put(&world.credentials, "p", json!({ "discover": "never", "delete": [delete] }));
        assert_eq!(places(&faults(blind)), ["delete[0]"], "{delete}");
    }
    assert!(try_put(&world.credentials, "p", json!({ "delete": ["/23"] })).is_err());
    put(&world, "p", json!({ "delete": ["/0"] }));
    // A device that is written blind all the same.
    let profile = Profile { write_blind: Some(true), ..Profile::default() };
    world.credentials.enrol(1, "test", "b", &Enrol { profile: Some(profile), ..Enrol::default() }).unwrap();
    let refused = world.credentials.assign(2, "test", "b", &assigned("p", &[], &[])).unwrap_err();
    assert!(refused.to_string().contains("written blind"), "{refused}");
}

#[test]
fn an_object_that_is_not_known_is_written_when_that_is_wanted() {
    let write = |more: Json| json!({ "write": [with(json!({ "path": "/4711/0/1" }), more)] });
    let world = World::new(false);
    let known = try_put(&world.credentials, "p", write(json!({ "value": 1 })));
    assert_eq!(places(&faults(known)), ["write[0].path"]);
    put(&world, "p", write(json!({ "value": { "type": "unsigned", "value": 7 }, "unchecked": true })));
    let body = &world.credentials.profiles().find("p", None).unwrap().body.clone();
    assert_eq!(body.write[0].value, json!({ "type": "unsigned", "value": 7 }));
}

#[test]
fn a_device_follows_nothing_that_it_lacks_something_for() {
    let mut world = World::new(false);
    world.enrol("a", Role::Management);
    world.enrol("a", Role::Bootstrap);
    put(&world, "rich", rich());
    let refused = |assign: &Assign| faults(world.credentials.assign(6, "test", "a", assign));
    assert_eq!(places(&refused(&assigned("rich", &[], &[]))), ["variables.site", "secrets.data_key"]);
    let unused = assigned("rich", &[("site", "x"), ("sight", "x")], &[("data_key", 1), ("other", 2)]);
    assert_eq!(places(&refused(&unused)), ["variables.sight", "secrets.other"]);
    let long = "x".repeat(256);
    let long = assigned("rich", &[("site", &long)], &[("data_key", 1)]);
    assert_eq!(places(&refused(&long)), ["variables.site"]);
    let spaced = assigned("rich", &[("site", "a b")], &[("data_key", 1)]);
    assert_eq!(places(&refused(&spaced)), ["server_uri", "servers[1].uri"]);
    let unknown = world.credentials.assign(6, "test", "a", &assigned("poor", &[], &[])).unwrap_err();
    assert!(matches!(unknown, OperatorError::UnknownProfile(..)), "{unknown}");
    let version = Assign { version: Some(2), ..assigned("rich", &[("site", "x")], &[("data_key", 1)]) };
    let unknown = world.credentials.assign(6, "test", "a", &version).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no version 2 of a profile 'rich'");
    assert_eq!(world.credentials.device("a").unwrap().assigned, None);
    // A device without a credential would be sent the key in the clear.
    let open = Enrol { allow_nosec: Some(true), ..Enrol::default() };
    world.credentials.enrol(1, "test", "open", &open).unwrap();
    let good = assigned("rich", &[("site", "x")], &[("data_key", 1)]);
    let refused = world.credentials.assign(6, "test", "open", &good).unwrap_err();
    assert!(refused.to_string().contains("in the clear"), "{refused}");
}

#[test]
fn a_bootstrap_is_refused_when_the_profile_cannot_be_followed_any_more() {
    let mut world = rich_world(rich());
    // The server has become one that the profile calls another.
    let settings = Settings { short_server_id: 9, ..world.credentials.settings().as_ref().clone() };
    world.credentials.set_settings(settings);
    let why = world.credentials.preview(1, "a").unwrap_err().to_string();
    assert_eq!(why, "servers[0].short_server_id: 9 is that of this server by now");
    let mut device = Device::secure(&mut world, Listener::BootstrapCoaps, 40_000, "a-bootstrap", &KEY);
    assert!(device.request(&mut world, Code::POST, "bs?ep=a", b"").is_none());
    assert!(world.told().iter().any(|told| told.contains("its bootstrap profile cannot be followed")));
}

fn store() -> Arc<dyn Store> {
    Arc::new(RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap())
}

#[test]
fn profiles_assignments_and_secret_variables_outlive_a_restart() {
    let store = store();
    let open = || Credentials::open(Arc::clone(&store), Settings::default()).unwrap();
    let credentials = open();
    let enrol = Enrol::default();
    credentials.enrol(1, "test", "a", &enrol).unwrap();
    try_put(&credentials, "rich", rich()).unwrap();
    try_put(&credentials, "rich", json!({ "lifetime": 1 })).unwrap();
    try_put(&credentials, "open", json!({ "lifetime": 2 })).unwrap();
    credentials.assign(2, "test", "a", &assigned("open", &[], &[])).unwrap();

    let credentials = open();
    let profiles = credentials.profiles();
    assert_eq!(
        profiles.iter().map(|(name, of)| (&**name, of.len())).collect::<Vec<_>>(),
        [("open", 1), ("rich", 2)]
    );
    assert_eq!(profiles.find("rich", Some(1)).unwrap().secrets().collect::<Vec<_>>(), ["data_key"]);
    assert_eq!(credentials.device("a").unwrap().assigned.as_ref().unwrap().name, "open");
    assert_eq!(try_put(&credentials, "open", json!({ "lifetime": 2 })).unwrap(), (1, false));
    assert_eq!(try_put(&credentials, "open", json!({ "lifetime": 3 })).unwrap(), (2, true));
}

#[test]
fn secret_variables_stay_when_they_are_left_out_and_go_with_the_profile() {
    let store = store();
    let world = {
        let mut world = World::new(false);
        world.credentials = Credentials::open(Arc::clone(&store), Settings::default()).unwrap();
        world.enrol("a", Role::Bootstrap);
        put(&world, "rich", rich());
        put(&world, "plain", json!({}));
        world
    };
    let credentials = &world.credentials;
    let key = |byte: u8| Key::new(vec![byte; 16]).unwrap();
    let kept = || store.variables("a").unwrap().get("data_key").cloned();
    credentials.assign(1, "test", "a", &assigned("rich", &[("site", "x")], &[("data_key", 7)])).unwrap();
    assert_eq!(kept(), Some(key(7)));
    let version = credentials.device("a").unwrap().version;
    credentials.assign(2, "test", "a", &assigned("rich", &[("site", "x")], &[])).unwrap();
    assert_eq!(credentials.device("a").unwrap().version, version, "the same again changes nothing");
    credentials.assign(3, "test", "a", &assigned("rich", &[("site", "y")], &[])).unwrap();
    assert_eq!(kept(), Some(key(7)));
    credentials.assign(4, "test", "a", &assigned("rich", &[("site", "y")], &[("data_key", 8)])).unwrap();
    assert_eq!(kept(), Some(key(8)));
    credentials.assign(5, "test", "a", &assigned("plain", &[], &[])).unwrap();
    assert_eq!(kept(), None, "another profile has no use for it");
    credentials.assign(6, "test", "a", &assigned("rich", &[("site", "y")], &[("data_key", 8)])).unwrap();
    credentials.unassign(7, "test", "a").unwrap();
    assert_eq!(kept(), None);
    credentials.assign(8, "test", "a", &assigned("rich", &[("site", "y")], &[("data_key", 8)])).unwrap();
    credentials.decommission(9, "test", "a", "gone").unwrap();
    assert_eq!(kept(), None);
    assert_eq!(credentials.device("a").unwrap().assigned, None);
    let what: Vec<String> =
        credentials.audit(Some("a"), None, 100).unwrap().into_iter().map(|row| row.what).collect();
    assert_eq!(what.iter().filter(|what| *what == "profile assigned").count(), 6, "{what:?}");
}

#[test]
fn an_enrolment_may_name_the_profile_and_is_done_whole_or_not_at_all() {
    let world = World::new(false);
    put(&world, "rich", rich());
    let follow = |secrets: &[(&str, u8)]| {
        let follow = Some(assigned("rich", &[("site", "x")], secrets));
        let accounts = vec![EnrolAccount { role: Role::Bootstrap, key: KeyMaterial::Generate(Mode::Psk) }];
        world.credentials.enrol(1, "test", "b", &Enrol { follow, accounts, ..Enrol::default() })
    };
    assert_eq!(places(&faults(follow(&[]))), ["secrets.data_key"]);
    assert!(world.credentials.device("b").is_none(), "nothing of it was kept");
    follow(&[("data_key", 7)]).unwrap();
    let device = world.credentials.device("b").unwrap();
    assert_eq!(device.assigned.as_ref().unwrap().version, 1);
    assert!(device.bootstrap.is_some());
}

#[test]
fn a_profile_that_devices_follow_is_not_removed() {
    let world = following(json!({ "lifetime": 60 }));
    let credentials = &world.credentials;
    let refused = credentials.remove_profile(7, "test", "p").unwrap_err();
    assert!(matches!(refused, OperatorError::ProfileInUse(1)), "{refused}");
    credentials.unassign(8, "test", "a").unwrap();
    credentials.remove_profile(9, "test", "p").unwrap();
    assert!(credentials.profiles().find("p", None).is_none());
    let unknown = credentials.remove_profile(9, "test", "p").unwrap_err();
    assert!(matches!(unknown, OperatorError::UnknownProfile(..)), "{unknown}");
    let rows = credentials.audit(None, None, 100).unwrap();
    let of_profiles =
        rows.iter().filter(|row| row.endpoint.is_none()).map(|row| (row.what.as_str(), row.detail.as_str()));
    assert_eq!(of_profiles.collect::<Vec<_>>(), [("profile made", "p version 1"), ("profile removed", "p")]);
}

#[test]
fn a_profile_is_previewed_for_a_device_before_it_follows_it() {
    let mut world = World::new(false);
    world.enrol("a", Role::Management);
    world.enrol("a", Role::Bootstrap);
    put(&world, "rich", rich());
    let now = world.now.as_millis();
    let missing = world.credentials.preview_of(now, "a", &assigned("rich", &[], &[]));
    assert_eq!(places(&faults(missing)), ["variables.site"]);
    let before = world.credentials.preview_of(now, "a", &assigned("rich", &[("site", "kiel")], &[])).unwrap();
    assert_eq!(before.missing, ["data_key"]);
    world
        .credentials
        .assign(6, "test", "a", &assigned("rich", &[("site", "kiel")], &[("data_key", 0)]))
        .unwrap();
    let after = world.credentials.preview(now, "a").unwrap();
    assert_eq!(after.missing, [] as [&str; 0]);
    let [before, after] = [before.plan, after.plan].map(|plan| preview(plan, None, FOUND, now).unwrap());
    assert_eq!(before, after);
    assert_eq!(
        world.credentials.device("a").unwrap().management.as_ref().unwrap().state,
        State::Armed,
        "nothing was handed out"
    );
}

#[test]
fn a_device_without_security_follows_a_profile_without_keys() {
    let world = World::new(true);
    world
        .credentials
        .enrol(1, "test", "open", &Enrol { allow_nosec: Some(true), ..Enrol::default() })
        .unwrap();
    let second = json!([{ "short_server_id": 9, "uri": "coap://second.example", "security": "nosec" }]);
    put(&world, "p", json!({ "server_uri_nosec": "coap://first.example", "servers": second }));
    world.credentials.assign(2, "test", "open", &assigned("p", &[], &[])).unwrap();
    let plan = world.credentials.bootstrap_plan_without_security("open").unwrap();
    let asked = preview(plan, None, b"</0/0>", 0).unwrap();
    let paths: Vec<String> = asked.iter().filter_map(|request| Some(request.path?.to_string())).collect();
    assert_eq!(paths, ["/", "/0/1", "/1/0", "/0/2", "/1/1"]);
}

fn discovered() -> impl Strategy<Value = String> {
    let link = (
        prop::sample::select(vec![0_u16, 1, 2, 21, 3303]),
        0_u16..6,
        prop::option::of(prop::sample::select(vec![0_u16, 1, 7, 8, 9, 65535])),
    );
    prop::collection::vec(link, 0..12).prop_map(|links| {
        let link = |(object, instance, id): &(u16, u16, Option<u16>)| match id {
            Some(id) => format!("</{object}/{instance}>;ssid={id}"),
            None => format!("</{object}/{instance}>"),
        };
        links.iter().map(link).collect::<Vec<_>>().join(",")
    })
}

fn any_profile() -> impl Strategy<Value = Json> {
    let server = (prop::option::of(2_u16..7), prop::option::of(2_u16..7));
    (
        prop::collection::vec(server, 0..3),
        prop::sample::select(vec!["instance", "object", "resource"]),
        prop::collection::vec(prop::sample::select(vec!["/0", "/1", "/21", "/3303", "/2/0"]), 0..4),
        prop::option::of(2_u16..7),
        any::<bool>(),
    )
        .prop_map(|(servers, write_by, mut delete, security_instance, is_blind)| {
            delete.sort_unstable();
            delete.dedup();
            if is_blind {
                delete.retain(|path| !matches!(*path, "/0" | "/21"));
            }
            let servers: Vec<Json> = (7_u16..)
                .zip(servers)
                .map(|(id, (security, server))| {
                    json!({ "short_server_id": id, "uri": "coap://a.example", "security": "nosec",
                            "security_instance": security, "server_instance": server })
                })
                .collect();
            json!({ "servers": servers, "write_by": write_by, "delete": delete, "security_instance": security_instance,
                    "discover": if is_blind { "never" } else { "first" },
                    "access_control": [{ "object": 3, "instance": 0 }] })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_request_of_any_profile_goes_to_the_bootstrap_account_of_any_device(
        body in any_profile(), shown in discovered(),
    ) {
        let credentials = Credentials::open(store(), Settings::default()).unwrap();
        credentials.enrol(1, "test", "a", &Enrol { allow_nosec: Some(true), ..Enrol::default() }).unwrap();
        // Two servers may have been given the same instance.
        prop_assume!(try_put(&credentials, "p", body.clone()).is_ok());
        credentials.assign(2, "test", "a", &assigned("p", &[], &[])).unwrap();
        let plan = credentials.bootstrap_plan_without_security("a").unwrap();
        let is_blind = body["discover"] == "never";
        let spared: Vec<Path> = match is_blind {
            true => Vec::new(),
            false => shown
                .split(',')
                .filter(|link| link.starts_with("</0/") || link.starts_with("</21/"))
                .filter(|link| !link.contains("ssid") || link.ends_with("=0") || link.ends_with("=65535"))
                .map(|link| at(link.split(['<', '>']).nth(1).unwrap()))
                .collect(),
        };
        let Ok(requests) = preview(plan, None, shown.as_bytes(), 0) else { return Ok(()) };
        let mut accounts: Vec<(Path, u16)> = Vec::new();
        for request in &requests {
            let Some(path) = request.path.filter(|_| request.operation != "Bootstrap-Discover") else { continue };
            for spared in &spared {
                prop_assert!(!path.starts_with(*spared), "{path} of {shown}");
                let is_written = request.values.iter().any(|(at, _)| at.starts_with(*spared));
                prop_assert!(!is_written, "{path} of {shown}");
                let is_deleted = request.operation == "Bootstrap-Delete" && spared.starts_with(path);
                prop_assert!(!is_deleted, "{path} of {shown}");
            }
            // Of each instance one account says its Short Server ID.
            for (at, value) in &request.values {
                let is_id = matches!((at.object_id(), at.resource_id()), (Some(0), Some(10)) | (Some(1), Some(0)));
                if is_id {
                    let lwm2m_server::endpoint::Shown::Value(lwm2m_server::Value::Integer(id)) = value else {
                        unreachable!("{value:?}")
                    };
                    let id = u16::try_from(*id).unwrap();
                    let instance = at.parent().unwrap();
                    prop_assert!(!accounts.iter().any(|(other, _)| *other == instance), "{instance} of {shown}");
                    accounts.push((instance, id));
                }
            }
        }
    }
}
