//! Echoes what clients send over DTLS.
//!
//! `cargo run -p dtls-psk --example psk_server -- 127.0.0.1:5684 IDENTITY KEY_IN_HEX`
//!
//! A peer to try it with:
//! `openssl s_client -dtls1_2 -connect 127.0.0.1:5684 -psk_identity IDENTITY -psk KEY_IN_HEX -cipher 'PSK-AES128-CCM8:@SECLEVEL=0'`

use std::collections::HashMap;
use std::io::Read as _;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant as Clock};

use dtls_psk::{
    Accepted, Answer, Choice, Config, Connection, CookieJar, Datagram, HEADROOM, Handshake, Input, Instant,
    Operation, TAILROOM, choose,
};

type Failure = Box<dyn std::error::Error>;
type Peer = Connection<1024, Box<Handshake<1024>>>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, identity, key] = arguments.as_slice() else {
        return Err("usage: psk_server ADDRESS IDENTITY KEY_IN_HEX".into());
    };
    let known = (identity.as_bytes(), parse_hex(key)?);
    let socket = UdpSocket::bind(listen)?;
    println!("listening on {}", socket.local_addr()?);

    let start = Clock::now();
    let now = || Instant::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mut urandom = std::fs::File::open("/dev/urandom")?;
    let mut rng = |bytes: &mut [u8]| urandom.read_exact(bytes).expect("the system has randomness");
    let mut jar = CookieJar::new(now(), &mut rng);
    // The connections of each address, the newest first: one that is established and one under way.
    let mut peers: HashMap<SocketAddr, Vec<Peer>> = HashMap::new();
    let (mut bytes, mut scratch, mut out) = ([0; 2048], [0; 2048], [0; 1152]);
    loop {
        // Flights and what a datagram or the time brought: the same for all.
        peers.retain(|address, peers| {
            for peer in peers.iter_mut() {
                while let Some(length) = peer.poll_transmit(now(), &mut out) {
                    let _ = socket.send_to(out.get(..length).unwrap_or_default(), address);
                }
            }
            peers.retain(|peer| !peer.is_closed());
            !peers.is_empty()
        });
        let next = peers.values().flatten().filter_map(Connection::poll_timeout).min();
        let patience = next.map_or(Duration::from_secs(3600), |at| at.since(now()));
        socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let Ok((length, address)) = socket.recv_from(&mut bytes) else {
            for peer in peers.values_mut().flatten() {
                if let Some(Input::Closed(reason)) = peer.handle_timeout(now()) {
                    println!("refused: {reason}");
                }
            }
            continue;
        };
        let received = bytes.get_mut(..length).unwrap_or_default();
        let candidates = peers.get(&address).map_or(&[][..], Vec::as_slice);
        match choose(candidates.iter(), received, &mut scratch) {
            Choice::New => {
                match jar.accept(
                    now(),
                    &Config::DEFAULT,
                    &mut rng,
                    address.to_string().as_bytes(),
                    received,
                    &mut out,
                ) {
                    Accepted::Reply(length) => {
                        socket.send_to(out.get(..length).unwrap_or_default(), address)?;
                    }
                    Accepted::Refused { length, reason } => {
                        println!("{address} refused: {reason}");
                        socket.send_to(out.get(..length).unwrap_or_default(), address)?;
                    }
                    Accepted::Verified(hello) => {
                        let peer = Peer::server(now(), &Config::DEFAULT, &hello, &mut rng, Box::default())?;
                        let of_address = peers.entry(address).or_default();
                        of_address.retain(Connection::is_established);
                        of_address.insert(0, peer);
                    }
                    Accepted::Dropped(dropped) => println!("{address} dropped: {dropped:?}"),
                }
            }
            Choice::Candidate(index) => {
                let of_address = peers.entry(address).or_default();
                let Some(peer) = of_address.get_mut(index) else { continue };
                let mut datagram = Datagram::new(received);
                let mut established = false;
                while let Some(input) = peer.handle(now(), &mut datagram) {
                    match input {
                        Input::Established { .. } => established = true,
                        Input::Application(text) => {
                            println!("{address}: {}", String::from_utf8_lossy(text).trim_end());
                            let mut record = vec![0; HEADROOM];
                            record.extend_from_slice(text);
                            let payload = HEADROOM..record.len();
                            record.resize(record.len().saturating_add(TAILROOM), 0);
                            let sealed = peer.seal(&mut record, payload)?;
                            socket.send_to(record.get(sealed).unwrap_or_default(), address)?;
                        }
                        Input::Closed(reason) => println!("{address} closed: {reason}"),
                        _ => {}
                    }
                }
                if let Some(pending) = peer.poll_pending() {
                    let answer = match pending.operation {
                        Operation::LookUpPsk { identity } if identity == known.0 => {
                            Answer::Psk { key: &known.1 }
                        }
                        _ => Answer::Unknown,
                    };
                    let id = pending.id;
                    established |=
                        peer.provide(now(), id, answer)? == Some(Input::Established { full: true });
                }
                if established {
                    println!("{address} established");
                    of_address.truncate(index.saturating_add(1));
                }
            }
            Choice::Dropped(dropped) => println!("{address} dropped: {dropped:?}"),
        }
    }
}

fn parse_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}
