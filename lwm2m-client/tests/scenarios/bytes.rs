//! Bytes on air, as UDP payload: one byte more fails here.
//!
//! The recipe: an endpoint name of 15 characters, a list of four instances (27 bytes), a location of 4 characters after
//! `/rd/`. Lengths that differ in this bench are set off.

use lwm2m_client::PresharedKey;
use lwm2m_client::objects::{Format, Operation, Path};

use crate::world::{OLD, Script, World, account, target};

const PORT: u16 = 5683;
const DTLS: usize = 29;
/// A token has 4 bytes without security and 1 within it.
const TOKEN: usize = 3;

fn world(key: Option<PresharedKey<'static>>) -> World {
    let script = match key {
        Some(key) => Script::secured(PORT, "old", key.key),
        None => Script::new(PORT),
    };
    let mut world = World::new(&[account(1, PORT, key)], vec![script]);
    world.config.endpoint = "urn:imei:123456";
    world.power_loss();
    assert!(world.run_until(5, |world| world.is_registered(PORT)));
    world
}

fn last(world: &World) -> usize {
    world.sent.last().unwrap().1
}

fn register(key: Option<PresharedKey<'static>>) -> usize {
    let mut world = world(key);
    let list = world.server(PORT).requests[0].payload.len();
    last(&world) - list + "</1/0>,</3/0>,</4/0>,</5/0>".len()
}

fn update(key: Option<PresharedKey<'static>>) -> usize {
    let mut world = world(key);
    world.run(1);
    world.client.update();
    world.run(1);
    last(&world) + "5a3f".len() - "r1".len()
}

fn notification(key: Option<PresharedKey<'static>>, format: Format) -> usize {
    let mut world = world(key);
    let path = Path::resource(3303, 0, 5700);
    world.ask(PORT, &Operation::Observe { target: target("/3303/0/5700"), accept: Some(format) });
    world.objects.temperature.celsius = 21.5;
    world.client.changed(path);
    world.run(1);
    assert_eq!(world.server(PORT).notifications.len(), 1);
    last(&world)
}

#[test]
fn register_takes_84_bytes_and_110_in_dtls() {
    assert_eq!(register(None), 84);
    assert_eq!(register(Some(OLD)), 84 - TOKEN + DTLS);
}

#[test]
fn update_takes_16_bytes_and_42_in_dtls() {
    assert_eq!(update(None), 16);
    assert_eq!(update(Some(OLD)), 16 - TOKEN + DTLS);
}

#[test]
fn a_notification_of_four_characters_takes_16_bytes_and_42_in_dtls() {
    assert_eq!(notification(None, Format::TEXT), 16);
    assert_eq!(notification(Some(OLD), Format::TEXT), 16 - TOKEN + DTLS);
}

#[test]
fn a_notification_of_a_float_in_senml_cbor_takes_35_bytes_and_61_in_dtls() {
    assert_eq!(notification(None, Format::SENML_CBOR), 35);
    assert_eq!(notification(Some(OLD), Format::SENML_CBOR), 35 - TOKEN + DTLS);
}
