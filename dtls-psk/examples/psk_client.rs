//! Sends one line over DTLS and prints what comes back.
//!
//! `cargo run -p dtls-psk --example psk_client -- 127.0.0.1:5684 IDENTITY KEY_IN_HEX TEXT`
//!
//! A peer to try it with:
//! `openssl s_server -dtls1_2 -accept 5684 -nocert -psk_identity IDENTITY -psk KEY_IN_HEX -cipher 'PSK-AES128-CCM8:@SECLEVEL=0'`

use std::io::Read as _;
use std::net::UdpSocket;
use std::time::{Duration, Instant as Clock};

use dtls_psk::{Config, Connection, Datagram, HEADROOM, Handshake, Input, Instant, Psk, TAILROOM};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, identity, key, text] = arguments.as_slice() else {
        return Err("usage: psk_client ADDRESS IDENTITY KEY_IN_HEX TEXT".into());
    };
    let key = parse_hex(key)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;

    let start = Clock::now();
    let now = || Instant::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    let mut urandom = std::fs::File::open("/dev/urandom")?;
    let mut rng = |bytes: &mut [u8]| urandom.read_exact(bytes).expect("the system has randomness");

    let psk = Psk { identity: identity.as_bytes(), key: &key };
    let mut connection = Connection::<512>::client(now(), &Config::DEFAULT, psk, &mut rng, Handshake::new())?;
    let mut out = [0; 1152];
    let mut bytes = [0; 2048];
    loop {
        while let Some(length) = connection.poll_transmit(now(), &mut out) {
            socket.send(out.get(..length).unwrap_or_default())?;
        }
        if connection.is_closed() {
            return Ok(());
        }
        // Never zero, which would mean to wait for ever; without a timer there is nothing to wait for but input.
        let patience = connection.poll_timeout().map_or(Duration::from_secs(5), |at| at.since(now()));
        socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let Ok(length) = socket.recv(&mut bytes) else {
            if connection.is_established() {
                println!("no answer");
                connection.close();
            } else if let Some(Input::Closed(reason)) = connection.handle_timeout(now()) {
                return Err(reason.into());
            }
            continue;
        };
        let mut datagram = Datagram::new(bytes.get_mut(..length).unwrap_or_default());
        while let Some(input) = connection.handle(now(), &mut datagram) {
            match input {
                Input::Established { .. } => {
                    println!("established");
                    let mut record = vec![0; HEADROOM];
                    record.extend_from_slice(text.as_bytes());
                    record.push(b'\n');
                    let payload = HEADROOM..record.len();
                    record.resize(record.len().saturating_add(TAILROOM), 0);
                    let sealed = connection.seal(&mut record, payload)?;
                    socket.send(record.get(sealed).unwrap_or_default())?;
                }
                Input::Application(answer) => {
                    println!("received: {}", String::from_utf8_lossy(answer).trim_end());
                    connection.close();
                }
                Input::Closed(reason) => return Err(reason.into()),
                _ => {}
            }
        }
    }
}

fn parse_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}
