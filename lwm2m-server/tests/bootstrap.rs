//! The bootstrap interface from the server's side: the sequence, and every step failing (LwM2M Core 1.2.1 §6.1.7).

#![expect(clippy::unwrap_used, reason = "test")]

mod support;

use std::time::Duration;

use lwm2m_coap::{Code, Instant, OptionNumber};
use lwm2m_objects::format::Items;
use lwm2m_objects::{Content, Format, Path};
use lwm2m_server::credentials::{BootstrapStep, Enrol, Fetch, Profile, Role, Rotate, Settings, State};
use lwm2m_server::endpoint::Listener;
use support::{Device, KEY, World, play};

const FOUND: &[u8] = b"</>;lwm2m=1.1,</0/1>,</0/0>;ssid=9;uri=\"coaps://x\",</1/0>;ssid=9,</3/0>";

fn device(world: &mut World) -> Device {
    world.enrol("a", Role::Management);
    let identity = world.enrol("a", Role::Bootstrap);
    let mut device = Device::secure(world, Listener::BootstrapCoaps, 40_000, &identity, &KEY);
    assert!(device.established);
    let answer = device.request(world, Code::POST, "bs?ep=a&pct=11542", b"").unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    world.told();
    device
}

/// Answers the steps with success until one is to be refused; tells what was asked.
fn run(world: &mut World, device: &mut Device, refused: usize, refusal: Option<Code>) -> Vec<String> {
    let mut steps = Vec::new();
    while let Some(asked) = device.got.pop_front() {
        steps.push(format!("{}.{:02} {}", asked.code.class(), asked.code.detail(), asked.uri()));
        if steps.len() > refused {
            match refusal {
                Some(code) => device.answer(world, &asked, code, &[], b""),
                None => world.pass(Duration::from_secs(250)),
            }
            device.got.retain(|got| got.id != asked.id);
            continue;
        }
        match asked.code {
            Code::GET => {
                let link = (OptionNumber::CONTENT_FORMAT, &[40_u8][..]);
                device.answer(world, &asked, Code::CONTENT, &[link], FOUND);
            }
            Code::DELETE => device.answer(world, &asked, Code::DELETED, &[], b""),
            _ => device.answer(world, &asked, Code::CHANGED, &[], b""),
        }
    }
    steps
}

/// What a device answers that agrees with everything.
fn agreed(step: &str, found: &'static [u8]) -> (Code, &'static [u8]) {
    match step.get(..4) {
        Some("0.01") => (Code::CONTENT, found),
        Some("0.04") => (Code::DELETED, b""),
        _ => (Code::CHANGED, b""),
    }
}

fn note(world: &World) -> String {
    let device = world.credentials.device("a").unwrap();
    device.management.as_ref().unwrap().note.clone().unwrap_or_default()
}

#[test]
fn a_finish_that_is_refused_with_4_06_is_corrected_once() {
    // /0/3 and /1/5 are halves of accounts, /0/4 and /1/4 a whole one of another server, and ours is there twice.
    const MUDDLE: &[u8] = b"</0/0>,</0/1>;ssid=1,</0/2>;ssid=1,</0/3>;ssid=7,</0/4>;ssid=8,</1/0>;ssid=1,\
        </1/4>;ssid=8,</1/5>;ssid=9";
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let mut finishes = 0;
    let steps = play(&mut world, &mut device, |step| match step {
        "0.02 /bs" if finishes == 0 => {
            finishes = 1;
            (Code::NOT_ACCEPTABLE, b"")
        }
        step => agreed(step, if finishes == 0 { FOUND } else { MUDDLE }),
    });
    assert_eq!(
        steps,
        [
            "0.01 ",
            "0.03 /0/2",
            "0.03 /1/1",
            "0.02 /bs", //
            "0.01 ",
            "0.04 /0/2",
            "0.04 /0/3",
            "0.04 /1/5",
            "0.03 /0/1",
            "0.03 /1/0",
            "0.02 /bs"
        ]
    );
    assert_eq!(world.told(), ["bootstrap finished a"]);
}

#[test]
fn no_account_of_another_server_is_deleted_when_the_device_may_not_show_all_of_them() {
    for found in [
        // Cut in front of the `/1` instance of server 2.
        &b"</0/0>,</0/1>;ssid=1,</0/2>;ssid=2,</1/0>;ssid=1,</1/1"[..],
        b"</0/0>,</0/1>;ssid=1,</0/2>;ssid=2,</1/0>;ssid=1,</1/\xff>",
        // Short Server IDs at one of the objects only.
        b"</0/0>,</0/1>;ssid=1,</0/2>;ssid=2,</1/0>,</1/1>",
        b"</0/2>;ssid=2,</1/1>",
        b"</0/0>,</0/1>,</0/2>,</1/0>;ssid=1,</1/1>;ssid=2",
        // Instances of one of the objects only.
        b"</0/0>,</0/1>;ssid=1,</0/2>;ssid=2,</1>",
        b"</1/0>;ssid=1,</1/1>;ssid=2",
    ] {
        let mut world = World::new(false);
        let mut device = device(&mut world);
        let mut finishes = 0;
        let steps = play(&mut world, &mut device, |step| match step {
            "0.02 /bs" if finishes == 0 => {
                finishes = 1;
                (Code::NOT_ACCEPTABLE, b"")
            }
            step => agreed(step, if finishes == 0 { FOUND } else { found }),
        });
        let found = String::from_utf8_lossy(found);
        assert!(!steps.iter().any(|step| step.starts_with("0.04")), "{found}: {steps:?}");
        assert_eq!(steps.iter().filter(|step| step.starts_with("0.03")).count(), 4, "{found}: {steps:?}");
        assert_eq!(world.told(), ["bootstrap finished a"], "{found}");
    }
}

#[test]
fn a_bootstrap_with_steps_of_its_own_reads_deletes_and_writes_in_their_order() {
    let mut world = World::new(false);
    let at = |text: &str| text.parse::<Path>().unwrap();
    let further = vec![(at("/2/0/3"), lwm2m_server::Value::Integer(65535))];
    let steps = vec![
        BootstrapStep::Account,
        BootstrapStep::Read(at("/1")),
        BootstrapStep::Delete(at("/1")),
        BootstrapStep::Discover,
        BootstrapStep::Write(at("/2/0"), further.into()),
        BootstrapStep::Account,
    ];
    world.credentials.set_bootstrap_steps("a", steps);
    let mut device = device(&mut world);
    let steps = play(&mut world, &mut device, |step| agreed(step, FOUND));
    let account = ["0.03 /0/2", "0.03 /1/1"];
    let between = ["0.01 /1", "0.04 /1", "0.01 ", "0.03 /2/0"];
    assert_eq!(steps, [&["0.01 "][..], &account, &between, &account, &["0.02 /bs"]].concat());
    assert_eq!(world.told(), ["bootstrap finished a"]);
}

#[test]
fn a_second_4_06_fails_the_bootstrap_with_the_reason_in_words() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let steps = play(&mut world, &mut device, |step| match step {
        "0.02 /bs" => (Code::NOT_ACCEPTABLE, b""),
        step => agreed(step, b"</0/0>,</1/3>;ssid=9"),
    });
    assert_eq!(steps.iter().filter(|step| *step == "0.02 /bs").count(), 2);
    let step = "Bootstrap-Finish again, after a correction (/1/3 deleted, /0/1 and /1/0 written again)";
    assert_eq!(world.told(), [format!("bootstrap failed a: {step} 4.06")]);
    assert_eq!(
        note(&world),
        format!("the device answered 4.06 to {step}: it finds the configuration inconsistent")
    );
}

#[test]
fn a_4_06_of_a_device_without_discover_fails_at_once() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let steps = play(&mut world, &mut device, |step| match step {
        "0.01 " => (Code::METHOD_NOT_ALLOWED, b""),
        "0.02 /bs" => (Code::NOT_ACCEPTABLE, b""),
        step => agreed(step, b""),
    });
    assert_eq!(steps, ["0.01 ", "0.03 /0/1", "0.03 /1/0", "0.02 /bs"]);
    assert_eq!(world.told(), ["bootstrap failed a: Bootstrap-Finish 4.06"]);
}

#[test]
fn a_write_that_is_refused_with_4_15_is_repeated_in_the_other_format() {
    for is_refused_again in [false, true] {
        let mut world = World::new(false);
        let mut device = device(&mut world);
        let mut refusals = 0;
        let steps = play(&mut world, &mut device, |step| match step {
            "0.03 /1/1" if refusals == 0 || is_refused_again => {
                refusals += 1;
                (Code::UNSUPPORTED_CONTENT_FORMAT, b"")
            }
            step => agreed(step, FOUND),
        });
        let twice = ["0.01 ", "0.03 /0/2", "0.03 /1/1", "0.03 /0/2", "0.03 /1/1"];
        if is_refused_again {
            assert_eq!(steps, twice);
            assert_eq!(world.told(), ["bootstrap failed a: Bootstrap-Write /1/1 4.15"]);
        } else {
            assert_eq!(steps, [&twice[..], &["0.02 /bs"]].concat());
            assert_eq!(world.told(), ["bootstrap finished a"]);
        }
    }
}

#[test]
fn the_time_is_written_where_that_is_configured_and_no_answer_to_it_fails_the_bootstrap() {
    for answer in [
        Code::CHANGED,
        Code::BAD_REQUEST,
        Code::NOT_FOUND,
        Code::METHOD_NOT_ALLOWED,
        Code::UNSUPPORTED_CONTENT_FORMAT,
        Code::INTERNAL_SERVER_ERROR,
    ] {
        let mut world = World::new(false);
        let settings = Settings { write_time: true, ..world.credentials.settings().as_ref().clone() };
        world.credentials.set_settings(settings);
        let mut device = device(&mut world);
        let steps = play(&mut world, &mut device, |step| match step {
            "0.03 /3/0/13" => (answer, b""),
            step => agreed(step, FOUND),
        });
        assert_eq!(steps, ["0.01 ", "0.03 /0/2", "0.03 /1/1", "0.03 /3/0/13", "0.02 /bs"], "{answer:?}");
        assert_eq!(world.told(), ["bootstrap finished a"], "{answer:?}");
    }
}

/// A gateway without a clock of its own starts in 1970, until a time server answers.
#[test]
fn the_time_that_is_written_is_that_of_the_wall_clock_also_when_it_is_set_meanwhile() {
    for (set_at, expected) in [
        // In TLV, a second for each request later: resource 13, one byte; the same, four bytes of 2027-01-15T08:00:00Z and later.
        (None, &[0xc1, 13, 6][..]),
        (Some("0.01 "), &[0xc4, 13, 0x6b, 0x49, 0xd2, 0x02]),
        (Some("0.03 /1/1"), &[0xc4, 13, 0x6b, 0x49, 0xd2, 0x00]),
        (Some("0.03 /3/0/13"), &[0xc1, 13, 6]),
    ] {
        let mut world = World::new(false);
        world.now = Instant::from_millis(3_000);
        let settings = Settings { write_time: true, ..world.credentials.settings().as_ref().clone() };
        world.credentials.set_settings(settings);
        let mut device = device(&mut world);
        let mut written = Vec::new();
        while let Some(asked) = device.got.pop_front() {
            world.pass(Duration::from_secs(1));
            let step = format!("{}.{:02} {}", asked.code.class(), asked.code.detail(), asked.uri());
            if set_at == Some(step.as_str()) {
                world.endpoint.set_wall_clock(world.now, 1_800_000_000_000);
            }
            let (code, body) = agreed(&step, FOUND);
            let link = (OptionNumber::CONTENT_FORMAT, &[40_u8][..]);
            let options = if body.is_empty() { &[][..] } else { core::slice::from_ref(&link) };
            device.answer(&mut world, &asked, code, options, body);
            if asked.uri() == "/3/0/13" {
                written.push(asked.payload);
            }
        }
        assert_eq!(written, [expected], "{set_at:?}");
    }
}

#[test]
fn a_rotation_ends_at_its_deadline_by_the_wall_clock_also_when_that_is_set() {
    let mut world = World::new(false);
    world.now = Instant::from_millis(3_000);
    let identity = world.enrol("a", Role::Management);
    world.enrol("a", Role::Bootstrap);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    device.register(&mut world, "ep=a&lt=86400&lwm2m=1.1", "</1/0>,</3/0>");
    // An operator's time is that of the wall clock, which has been set, and the endpoint is told.
    let set = 1_800_000_000_000;
    world.endpoint.set_wall_clock(world.now, set);
    let rotate = Rotate { deadline_ms: 3_600_000, ..Rotate::default() };
    world.credentials.rotate(set, "test", "a", &rotate).unwrap();
    let is_over = |world: &World| {
        let device = world.credentials.device("a").unwrap();
        !matches!(device.management.as_ref().unwrap().state, State::Rotating(_))
    };
    world.pass(Duration::from_secs(3_590));
    assert!(!is_over(&world));
    world.pass(Duration::from_secs(20));
    assert!(is_over(&world));
}

#[test]
fn the_time_that_is_written_is_the_servers_own_when_it_is_written() {
    let mut world = World::new(false);
    let settings = Settings { write_time: true, ..world.credentials.settings().as_ref().clone() };
    world.credentials.set_settings(settings);
    let mut device = device(&mut world);
    let mut written = Vec::new();
    while let Some(asked) = device.got.pop_front() {
        // The device takes a second for each request.
        world.pass(Duration::from_secs(1));
        let (code, body) = agreed(if asked.code == Code::GET { "0.01" } else { "0.03" }, FOUND);
        let link = (OptionNumber::CONTENT_FORMAT, &[40_u8][..]);
        let options = if body.is_empty() { &[][..] } else { core::slice::from_ref(&link) };
        device.answer(&mut world, &asked, code, options, body);
        if asked.uri() == "/3/0/13" {
            written.push(asked.payload);
        }
    }
    // 2027-01-15T08:00:03Z in TLV, after the Discover and two writes: resource 13, four bytes.
    assert_eq!(written, [[0xc4, 13, 0x6b, 0x49, 0xd2, 0x03]]);
}

#[test]
fn an_instance_that_is_gone_already_counts_as_deleted() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let steps = play(&mut world, &mut device, |step| match step {
        "0.04 /0/4" => (Code::NOT_FOUND, b""),
        step => agreed(step, b"</0/0>,</0/2>;ssid=1,</0/4>;ssid=1,</1/0>;ssid=1"),
    });
    assert_eq!(steps, ["0.01 ", "0.04 /0/4", "0.03 /0/2", "0.03 /1/0", "0.02 /bs"]);
    assert_eq!(world.told(), ["bootstrap finished a"]);
}

#[test]
fn a_discover_answer_that_is_cut_serves_when_it_shows_the_bootstrap_account() {
    for (found, told) in [
        (&b"</0/1>,</0/2>;ssid=1,</1/0"[..], "bootstrap finished a"),
        (b"</0/2>;ssid=1,</0/1", "bootstrap failed a: Bootstrap-Discover / 2.05, malformed"),
    ] {
        let mut world = World::new(false);
        let mut device = device(&mut world);
        let steps = play(&mut world, &mut device, |step| agreed(step, found));
        assert!(
            !steps.contains(&"0.03 /0/1".to_owned()),
            "the bootstrap account is not written over: {steps:?}"
        );
        assert_eq!(world.told(), [told]);
    }
}

#[test]
fn a_bootstrap_account_that_shows_a_short_server_id_of_no_server_is_left_alone() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let mut finishes = 0;
    let steps = play(&mut world, &mut device, |step| match step {
        "0.02 /bs" if finishes == 0 => {
            finishes = 1;
            (Code::NOT_ACCEPTABLE, b"")
        }
        step => agreed(step, b"</0/1>;ssid=65535,</0/2>;ssid=1,</1/0>;ssid=1"),
    });
    assert!(!steps.iter().any(|step| step.ends_with("/0/1")), "{steps:?}");
    assert_eq!(world.told(), ["bootstrap finished a"]);
}

#[test]
fn a_profile_says_that_a_device_is_written_blind_and_where() {
    let mut world = World::new(false);
    let profile = Profile {
        write_blind: Some(true),
        security_instance: Some(3),
        server_instance: Some(2),
        ..Profile::default()
    };
    let enrol = Enrol { profile: Some(profile), ..Enrol::default() };
    world.credentials.enrol(world.now.as_millis(), "test", "a", &enrol).unwrap();
    let mut device = device(&mut world);
    let steps = play(&mut world, &mut device, |step| agreed(step, FOUND));
    assert_eq!(steps, ["0.03 /0/3", "0.03 /1/2", "0.02 /bs"]);
    assert_eq!(world.told(), ["bootstrap finished a"]);
}

#[test]
fn a_device_that_asks_again_ends_its_bootstrap_before_and_only_the_last_one_counts() {
    let mut world = World::new(false);
    let mut first = device(&mut world);
    first.got.clear();
    let mut second = Device::secure(&mut world, Listener::BootstrapCoaps, 40_001, "a-bootstrap", &KEY);
    let answer = second.request(&mut world, Code::POST, "bs?ep=a&pct=11542", b"").unwrap();
    assert_eq!(answer.code, Code::CHANGED);
    play(&mut world, &mut second, |step| agreed(step, FOUND));
    world.pass(Duration::from_secs(250));
    let told: Vec<String> = world.told().into_iter().filter(|told| told.starts_with("bootstrap")).collect();
    assert_eq!(
        told,
        [
            "bootstrap failed a: Bootstrap-Discover / unanswered",
            "bootstrap started a",
            "bootstrap finished a"
        ]
    );
    assert_eq!(note(&world), "", "the failure of the first one says nothing about the second");
    let state = world.credentials.device("a").unwrap().management.as_ref().unwrap().state.clone();
    assert_eq!(state, State::Provisioned);
}

#[test]
fn a_revocation_of_the_management_account_ends_the_bootstrap_that_writes_it() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let asked = device.got.pop_front().unwrap();
    let commands =
        world.credentials.revoke(world.now.as_millis(), "test", "a", Some(Role::Management), "lost").unwrap();
    for command in commands {
        lwm2m_server::driver::execute(&mut world.endpoint, world.now, command);
    }
    world.settle();
    let link = (OptionNumber::CONTENT_FORMAT, &[40_u8][..]);
    device.answer(&mut world, &asked, Code::CONTENT, &[link], FOUND);
    world.pass(Duration::from_secs(10));
    assert!(device.got.is_empty(), "nothing of the revoked credential is written: {:?}", device.got);
    let told = world.told();
    assert!(told.iter().any(|told| told.starts_with("closed a")), "{told:?}");
}

#[test]
fn a_bootstrap_discovers_writes_and_finishes() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let steps = run(&mut world, &mut device, usize::MAX, None);
    assert_eq!(steps, ["0.01 ", "0.03 /0/2", "0.03 /1/1", "0.02 /bs"]);
    assert_eq!(world.told(), ["bootstrap finished a"]);
}

#[test]
fn every_step_that_fails_is_told_with_its_answer() {
    for (refused, code, told) in [
        (0, Code::UNAUTHORIZED, "bootstrap failed a: Bootstrap-Discover / 4.01"),
        (1, Code::BAD_REQUEST, "bootstrap failed a: Bootstrap-Write /0/2 4.00"),
        (2, Code::METHOD_NOT_ALLOWED, "bootstrap failed a: Bootstrap-Write /1/1 4.05"),
        (3, Code::BAD_REQUEST, "bootstrap failed a: Bootstrap-Finish 4.00"),
    ] {
        let mut world = World::new(false);
        let mut device = device(&mut world);
        let steps = run(&mut world, &mut device, refused, Some(code));
        assert_eq!(steps.len(), refused.saturating_add(1));
        assert_eq!(world.told(), [told]);
    }
}

#[test]
fn a_step_that_is_not_answered_fails_the_bootstrap() {
    for (refused, step) in
        ["Bootstrap-Discover /", "Bootstrap-Write /0/2", "Bootstrap-Write /1/1", "Bootstrap-Finish"]
            .iter()
            .enumerate()
    {
        let mut world = World::new(false);
        let mut device = device(&mut world);
        run(&mut world, &mut device, refused, None);
        assert_eq!(world.told(), [format!("bootstrap failed a: {step} unanswered")]);
    }
}

#[test]
fn a_device_without_discover_is_written_blind() {
    for code in [
        Code::BAD_REQUEST,
        Code::BAD_OPTION,
        Code::NOT_FOUND,
        Code::METHOD_NOT_ALLOWED,
        Code::NOT_ACCEPTABLE,
        Code::UNSUPPORTED_CONTENT_FORMAT,
        Code::NOT_IMPLEMENTED,
    ] {
        let mut world = World::new(false);
        let mut device = device(&mut world);
        let asked = device.asked(&mut world);
        device.answer(&mut world, &asked, code, &[], b"");
        let steps = run(&mut world, &mut device, usize::MAX, None);
        assert_eq!(steps, ["0.03 /0/1", "0.03 /1/0", "0.02 /bs"]);
    }
}

#[test]
fn a_device_that_cannot_answer_discover_now_is_not_written_blind() {
    for (code, text) in [
        (Code::UNAUTHORIZED, "4.01"),
        (Code::FORBIDDEN, "4.03"),
        (Code::REQUEST_ENTITY_INCOMPLETE, "4.08"),
        (Code::new(4, 29), "4.29"),
        (Code::INTERNAL_SERVER_ERROR, "5.00"),
        (Code::SERVICE_UNAVAILABLE, "5.03"),
        (Code::GATEWAY_TIMEOUT, "5.04"),
    ] {
        let mut world = World::new(false);
        let mut device = device(&mut world);
        let steps = play(&mut world, &mut device, |step| match step {
            "0.01 " => (code, b""),
            step => agreed(step, b""),
        });
        assert_eq!(steps, ["0.01 "], "{text}");
        assert_eq!(world.told(), [format!("bootstrap failed a: Bootstrap-Discover / {text}")]);
        assert_eq!(note(&world), format!("the device answered {text} to Bootstrap-Discover /"));
    }
}

#[test]
fn a_discover_answer_that_cannot_be_read_fails_the_bootstrap() {
    for body in [&b"</0/0"[..], b"busy", b"</0/2>;ssid=1,</0/\xff>;ssid=2"] {
        let mut world = World::new(false);
        let mut device = device(&mut world);
        let asked = device.asked(&mut world);
        device.answer(&mut world, &asked, Code::CONTENT, &[], body);
        assert_eq!(world.told(), ["bootstrap failed a: Bootstrap-Discover / 2.05, malformed"]);
    }
}

#[test]
fn a_device_is_written_in_the_format_that_it_asks_for() {
    for preferred in [Format::TLV, Format::SENML_CBOR, Format::SENML_JSON] {
        let mut world = World::new(false);
        world.enrol("a", Role::Management);
        let identity = world.enrol("a", Role::Bootstrap);
        let mut device = Device::secure(&mut world, Listener::BootstrapCoaps, 40_000, &identity, &KEY);
        device.request(&mut world, Code::POST, &format!("bs?ep=a&pct={}", preferred.0), b"").unwrap();
        let mut written = 0;
        while let Some(asked) = device.got.pop_front() {
            if asked.code == Code::PUT {
                let format =
                    asked.options.iter().find(|(number, _)| *number == OptionNumber::CONTENT_FORMAT.0);
                let format = format.unwrap().1.iter().fold(0, |format, byte| format << 8 | u16::from(*byte));
                assert_eq!(Format(format), preferred);
                let path = asked.uri().parse::<Path>().unwrap();
                let content = Content { format: preferred, payload: &asked.payload };
                written += Items::new(&path.into(), content).unwrap().map(Result::unwrap).count();
            }
            let step = format!("{}.{:02}", asked.code.class(), asked.code.detail());
            let (code, body) = agreed(&step, FOUND);
            let link = (OptionNumber::CONTENT_FORMAT, &[40_u8][..]);
            let options = if body.is_empty() { &[][..] } else { core::slice::from_ref(&link) };
            device.answer(&mut world, &asked, code, options, body);
        }
        assert!(written > 5, "{}", preferred.0);
    }
}

#[test]
fn a_format_that_is_not_supported_is_refused_with_4_15() {
    let mut world = World::new(false);
    world.enrol("a", Role::Management);
    let identity = world.enrol("a", Role::Bootstrap);
    let mut device = Device::secure(&mut world, Listener::BootstrapCoaps, 40_000, &identity, &KEY);
    let answer = device.request(&mut world, Code::POST, "bs?ep=a&pct=11543", b"").unwrap();
    assert_eq!(answer.code, Code::UNSUPPORTED_CONTENT_FORMAT);
    let answer = device.request(&mut world, Code::POST, "bs?ep=b", b"").unwrap();
    assert_eq!(answer.code, Code::BAD_REQUEST);
}

#[test]
fn a_device_may_leave_out_the_name_that_it_has_proven() {
    // LwM2M Core 1.1.1 §6.1.7.1
    let mut world = World::new(false);
    world.enrol("a", Role::Management);
    let identity = world.enrol("a", Role::Bootstrap);
    let mut device = Device::secure(&mut world, Listener::BootstrapCoaps, 40_000, &identity, &KEY);
    for request in ["bs", "bs?pct=11542"] {
        world.told();
        let answer = device.request(&mut world, Code::POST, request, b"").unwrap();
        assert_eq!(answer.code, Code::CHANGED, "{request}");
        let steps = run(&mut world, &mut device, usize::MAX, None);
        assert_eq!(steps.last().map(String::as_str), Some("0.02 /bs"), "{request}");
        assert!(world.told().contains(&"bootstrap finished a".to_owned()), "{request}");
    }
    // An empty name is none that is left out.
    let answer = device.request(&mut world, Code::POST, "bs?ep=", b"").unwrap();
    assert_eq!(answer.code, Code::BAD_REQUEST);
}

#[test]
fn without_security_a_device_that_leaves_out_its_name_is_refused() {
    let mut world = World::new(true);
    let mut device = Device::plain(Listener::BootstrapCoap, 40_000);
    for request in ["bs", "bs?pct=11542"] {
        let answer = device.request(&mut world, Code::POST, request, b"").unwrap();
        assert_eq!(answer.code, Code::BAD_REQUEST, "{request}");
    }
    world.pass(Duration::from_secs(600));
    assert_eq!(world.endpoint.associations(), 0);
    assert!(!world.told().iter().any(|told| told.starts_with("bootstrap started")));
}

#[test]
fn a_rotation_triggers_the_device_and_its_refusal_is_kept() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    world.enrol("a", Role::Bootstrap);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    device.register(&mut world, "ep=a&lt=600&lwm2m=1.1", "</1/4>,</1/5>,</3/0>");
    let rotated = world.credentials.rotate(world.now.as_millis(), "test", "a", &Rotate::default()).unwrap();
    for command in rotated.commands {
        lwm2m_server::driver::execute(&mut world.endpoint, world.now, command);
    }
    world.pass(Duration::from_secs(1));
    // Two instances: the one with this server's Short Server ID is the one to trigger.
    let asked = device.asked(&mut world);
    assert_eq!((asked.code, asked.uri().as_str()), (Code::GET, "/1"));
    let tlv = [0x03, 4, 0xc1, 0, 9, 0x03, 5, 0xc1, 0, 1];
    let format = (OptionNumber::CONTENT_FORMAT, &[0x2d, 0x16][..]);
    device.answer(&mut world, &asked, Code::CONTENT, &[format], &tlv);
    let asked = device.asked(&mut world);
    assert_eq!((asked.code, asked.uri().as_str()), (Code::POST, "/1/5/9"));
    // RFC 7252 §5.9.3.4: a busy device says when it makes sense to try again.
    let busy = (OptionNumber::MAX_AGE, &[200][..]);
    device.answer(&mut world, &asked, Code::SERVICE_UNAVAILABLE, &[busy], b"");
    world.pass(Duration::from_secs(190));
    assert!(device.take_all(&mut world).is_empty());
    world.pass(Duration::from_secs(11));
    let asked = device.asked(&mut world);
    assert_eq!((asked.code, asked.uri().as_str()), (Code::GET, "/1"));
    device.answer(&mut world, &asked, Code::CONTENT, &[format], &tlv);
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::CHANGED, &[], b"");
    assert!(device.got.is_empty());
}

#[test]
fn a_device_without_a_trigger_is_told_by_4_03_to_bootstrap_and_registers_with_what_it_fetched() {
    let mut world = World::new(false);
    let identity = world.enrol("a", Role::Management);
    let bootstrap = world.enrol("a", Role::Bootstrap);
    let mut device = Device::secure(&mut world, Listener::Coaps, 40_000, &identity, &KEY);
    device.register(&mut world, "ep=a&lt=600", "</1/0>,</3/0>");
    let rotate = Rotate { fetch: Fetch::Withhold, ..Rotate::default() };
    world.credentials.rotate(world.now.as_millis(), "test", "a", &rotate).unwrap();
    world.pass(Duration::from_secs(1));
    let asked = device.asked(&mut world);
    assert_eq!((asked.code, asked.uri().as_str()), (Code::POST, "/1/0/9"));
    device.answer(&mut world, &asked, Code::METHOD_NOT_ALLOWED, &[], b"");
    world.told();
    assert!(world.endpoint.device("a").is_none());
    let register = "rd?ep=a&lt=600";
    for _ in 0..2 {
        let answer = device.request(&mut world, Code::POST, register, b"</1/0>,</3/0>");
        assert_eq!(answer.unwrap().code, Code::FORBIDDEN, "its session stands");
    }
    let told = world.told();
    assert!(
        told.iter().all(|told| told.contains("it has to bootstrap first")) && told.len() == 2,
        "{told:?}"
    );

    let mut booting = Device::secure(&mut world, Listener::BootstrapCoaps, 40_001, &bootstrap, &KEY);
    booting.request(&mut world, Code::POST, "bs?ep=a", b"").unwrap();
    run(&mut world, &mut booting, usize::MAX, None);
    let answer = device.request(&mut world, Code::POST, register, b"</1/0>,</3/0>");
    assert_eq!(answer.unwrap().code, Code::CREATED);
}
