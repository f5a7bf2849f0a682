//! What protection costs: an Update protected, taken, answered and the answer taken, and the bare AEAD of the same bytes.
//! Prints nanoseconds and their ratio; `cargo bench -p oscore`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "benchmark"
)]

use std::hint::black_box;
use std::time::Instant as Clock;

use aes::Aes128;
use ccm::aead::generic_array::GenericArray;
use ccm::consts::{U8, U13};
use ccm::{AeadInPlace, Ccm, KeyInit};
use lwm2m_coap::{Code, Delivery, Input, Instant, OptionNumber, Peer, TokenPolicy, Writer};
use oscore::{Binding, KeyId, MasterSecret, Observation, Parameters, Protection, Saved, Session};

const ROUNDS: u32 = 300_000;

fn measure(name: &str, mut round: impl FnMut(u32)) -> u128 {
    (0..ROUNDS / 10).for_each(&mut round);
    let start = Clock::now();
    (0..ROUNDS).for_each(&mut round);
    let each = start.elapsed().as_nanos() / u128::from(ROUNDS);
    println!("{name}: {each} ns");
    each
}

type Remote = Peer<heapless::Vec<u8, 64>, 1, 4, 0, Binding>;

fn end(own: u8, other: u8) -> (Session, Remote) {
    static KNOWN: lwm2m_coap::Parameters =
        lwm2m_coap::Parameters { known: &[OptionNumber::URI_PATH], ..lwm2m_coap::Parameters::DEFAULT };
    let [own, other] = [own, other].map(|byte| KeyId::new(&[byte]).unwrap());
    let secret = MasterSecret::new(&[7; 16]).unwrap();
    let mut session = Session::new(&Parameters::new(secret, own, other).unwrap(), [1; 16]);
    // All numbers there are.
    session.saved(&Saved::parse(&[1, 0, 0, 0, 0, 0]).unwrap());
    (session, Remote::new(&KNOWN, TokenPolicy::SECURED, &mut |bytes| bytes.fill(1)))
}

fn main() {
    let ((mut near, mut client), (mut far, mut server)) = (end(1, 2), end(2, 1));
    let (mut buffer, mut none) = ([0; 128], heapless::Vec::<Observation, 0>::new());
    let mut rng = |bytes: &mut [u8]| bytes.fill(1);
    let exchange = measure("an Update and its answer, both ends", |round| {
        let now = Instant::from_millis(u64::from(round) * 1000);
        let token = client.next_token(&mut rng, |_| false);
        let mut writer = Writer::new(&mut buffer, near.room(), Code::POST);
        writer.split(OptionNumber::URI_PATH, "rd/5a3f", '/').unwrap();
        let mut protection = Protection::new(&mut near, &mut none, None);
        let delivery = Delivery::Confirmable;
        let (_, range) = client.request(now, delivery, token, writer, &mut protection, &mut rng).unwrap();
        let room = far.room();
        let mut protection = Protection::new(&mut far, &mut none, None);
        let mut exchange = match server.handle(now, &mut buffer[range], &mut protection) {
            Input::Request { exchange, .. } => exchange,
            other => unreachable!("{other:?}"),
        };
        let writer = Writer::new(&mut buffer, room, Code::CHANGED);
        let range = server.respond(now, &mut exchange, writer, &mut protection, &mut rng).unwrap();
        let mut protection = Protection::new(&mut near, &mut none, None);
        let input = client.handle(now, &mut buffer[range], &mut protection);
        assert!(matches!(input, Input::Response { .. }));
    });
    let (key, nonce, aad) = (GenericArray::from([7; 16]), GenericArray::from([1; 13]), [5; 24]);
    let bare = measure("bare AES-CCM of the same bytes, both ends", |_| {
        // Code and path; code alone.
        for length in [9, 1] {
            let mut text = [0x55; 9];
            let text = &mut text[..length];
            let tag =
                Ccm::<Aes128, U8, U13>::new(&key).encrypt_in_place_detached(&nonce, &aad, text).unwrap();
            Ccm::<Aes128, U8, U13>::new(&key).decrypt_in_place_detached(&nonce, &aad, text, &tag).unwrap();
            black_box(&text);
        }
    });
    println!("{:.2} times the bare AEAD", exchange as f64 / bare as f64);
}
