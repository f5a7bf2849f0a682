//! The bootstrap interface from the server's side: the sequence, and every step failing (LwM2M Core 1.2.1 §6.1.7).

#![expect(clippy::unwrap_used, reason = "test")]

mod support;

use std::time::Duration;

use lwm2m_coap::{Code, OptionNumber};
use lwm2m_server::credentials::{Role, Rotate};
use lwm2m_server::endpoint::Listener;
use support::{Device, KEY, World};

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
        (0, Code::BAD_REQUEST, "bootstrap failed a: Bootstrap-Discover / 4.00"),
        (1, Code::BAD_REQUEST, "bootstrap failed a: Bootstrap-Write /0/2 4.00"),
        (2, Code::UNSUPPORTED_CONTENT_FORMAT, "bootstrap failed a: Bootstrap-Write /1/1 4.15"),
        (3, Code::NOT_ACCEPTABLE, "bootstrap failed a: Bootstrap-Finish 4.06"),
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
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::NOT_FOUND, &[], b"");
    let steps = run(&mut world, &mut device, usize::MAX, None);
    assert_eq!(steps, ["0.03 /0/1", "0.03 /1/0", "0.02 /bs"]);
}

#[test]
fn a_discover_answer_that_cannot_be_read_fails_the_bootstrap() {
    let mut world = World::new(false);
    let mut device = device(&mut world);
    let asked = device.asked(&mut world);
    device.answer(&mut world, &asked, Code::CONTENT, &[], b"</0/0");
    assert_eq!(world.told(), ["bootstrap failed a: Bootstrap-Discover / 2.05, malformed"]);
}

#[test]
fn a_format_that_is_not_supported_is_refused_with_4_15() {
    let mut world = World::new(false);
    world.enrol("a", Role::Management);
    let identity = world.enrol("a", Role::Bootstrap);
    let mut device = Device::secure(&mut world, Listener::BootstrapCoaps, 40_000, &identity, &KEY);
    let answer = device.request(&mut world, Code::POST, "bs?ep=a&pct=110", b"").unwrap();
    assert_eq!(answer.code, Code::UNSUPPORTED_CONTENT_FORMAT);
    let answer = device.request(&mut world, Code::POST, "bs?ep=b", b"").unwrap();
    assert_eq!(answer.code, Code::BAD_REQUEST);
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
    device.answer(&mut world, &asked, Code::CHANGED, &[], b"");
    assert!(device.got.is_empty());
}
