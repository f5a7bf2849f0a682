//! Other primitives in the place of the default ones.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::*;
use dtls_psk::{
    Aead, Config, Connection, Crypto, Datagram, Handshake, Input, Psk, RunningHash, RunningMac, RustCrypto,
};

/// Counts how often it is asked.
struct Chip;

static SEALED: AtomicU32 = AtomicU32::new(0);
static OPENED: AtomicU32 = AtomicU32::new(0);
static HASHED: AtomicU32 = AtomicU32::new(0);
static AUTHENTICATED: AtomicU32 = AtomicU32::new(0);

#[derive(Clone)]
struct Hash(<RustCrypto as Crypto>::Sha256);

#[derive(Clone)]
struct Mac(<RustCrypto as Crypto>::Hmac);

impl RunningHash for Hash {
    fn new() -> Self {
        Self(RunningHash::new())
    }

    fn update(&mut self, bytes: &[u8]) {
        RunningHash::update(&mut self.0, bytes);
    }

    fn finish(self) -> [u8; 32] {
        HASHED.fetch_add(1, Ordering::Relaxed);
        self.0.finish()
    }
}

impl RunningMac for Mac {
    fn new(key: &[u8]) -> Self {
        Self(RunningMac::new(key))
    }

    fn update(&mut self, bytes: &[u8]) {
        RunningMac::update(&mut self.0, bytes);
    }

    fn finish(self) -> [u8; 32] {
        AUTHENTICATED.fetch_add(1, Ordering::Relaxed);
        self.0.finish()
    }
}

impl Crypto for Chip {
    type Sha256 = Hash;
    type Hmac = Mac;

    fn seal(
        aead: Aead,
        key: &[u8; 16],
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &mut [u8],
    ) -> Option<()> {
        SEALED.fetch_add(1, Ordering::Relaxed);
        RustCrypto::seal(aead, key, nonce, aad, buffer, tag)
    }

    fn open(
        aead: Aead,
        key: &[u8; 16],
        nonce: &[u8; 12],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Option<()> {
        OPENED.fetch_add(1, Ordering::Relaxed);
        RustCrypto::open(aead, key, nonce, aad, buffer, tag)
    }
}

#[test]
fn a_device_with_its_own_primitives_uses_nothing_else_and_is_understood() {
    type Device = Connection<512, Handshake<512, Chip>, Chip>;
    let mut random = Random(1);
    let psk = Psk { identity: IDENTITY, key: KEY };
    let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
    let mut device = Device::client(at(0), &Config::DEFAULT, psk, rng, Handshake::default()).unwrap();
    let mut server = Server::new(2);
    let mut out = [0; 1200];
    let mut established = false;
    while let Some(length) = device.poll_transmit(at(0), &mut out) {
        for mut answer in server.handle(at(0), &out[..length]).1 {
            let mut datagram = Datagram::new(&mut answer);
            while let Some(input) = device.handle(at(0), &mut datagram) {
                established |= input == Input::Established { full: true };
            }
        }
    }
    assert!(established && server.peer().is_established());
    let counts = [&SEALED, &OPENED, &HASHED, &AUTHENTICATED].map(|count| count.load(Ordering::Relaxed));
    // One Finished each way; the transcript up to either of them; the PRF's two codes for each 32 bytes: 48 of the master
    // secret, 40 of the keys, and 12 of each Finished.
    assert_eq!(counts, [1, 1, 2, 4 + 4 + 2 + 2]);
}
