//! What one exchange costs: an Update parsed, looked up, remembered and answered, and the same without a peer. Prints
//! nanoseconds; `cargo bench -p lwm2m-coap`.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "benchmark")]

use std::hint::black_box;
use std::time::Instant as Clock;

use lwm2m_coap::protect::Plain;
use lwm2m_coap::{Code, Input, Instant, Parameters, Peer, Room, TokenPolicy, Writer, udp};

const ROUNDS: u32 = 1_000_000;

fn measure(name: &str, mut round: impl FnMut(u32)) {
    (0..ROUNDS / 10).for_each(&mut round);
    let start = Clock::now();
    (0..ROUNDS).for_each(&mut round);
    println!("{name}: {} ns", start.elapsed().as_nanos() / u128::from(ROUNDS));
}

fn main() {
    // CON POST /rd/5a3f with a token of one byte.
    let update = *b"\x41\x02\x00\x00\x07\xb2rd\x045a3f";
    measure("parse an Update", |_| {
        let (_, message) = udp::parse(black_box(&update)).unwrap();
        black_box(message.options.uri_path().count());
    });
    let mut rng = |bytes: &mut [u8]| bytes.fill(1);
    let mut peer =
        Peer::<heapless::Vec<u8, 64>, 1, 4>::new(&Parameters::DEFAULT, TokenPolicy::Random, &mut rng);
    let mut buffer = [0; 128];
    measure("take an Update and answer it", |round| {
        let mut datagram = update;
        let [first, second, third, _] = round.to_le_bytes();
        datagram[2..5].copy_from_slice(&[first, second, third]);
        let now = Instant::from_millis(u64::from(round));
        let Input::Request { mut exchange, message } = peer.handle(now, &mut datagram, &mut Plain) else {
            return;
        };
        black_box(message.options.uri_path().count());
        let writer = Writer::new(&mut buffer, Room { head: 21, tail: 8 }, Code::CHANGED);
        black_box(peer.respond(now, &mut exchange, writer, &mut Plain, &mut rng).unwrap());
    });
}
