//! Reads DTLS 1.2 between a client and a server whose pre-shared key it knows, and checks that no sequence number is used
//! twice under one key (RFC 5288 §3, RFC 6655 §3: else the nonce repeats).
//!
//! The keys are derived from what went over the wire, apart from the engine: by RFC 5246 §5, §6.3, §8.1, RFC 4279 §2 and
//! RFC 7627 §4. It knows TLS_PSK_WITH_AES_128_CCM_8, the extended master secret, sessions taken up by their id, and Connection
//! IDs from the client; a handshake message is in one fragment.

use std::collections::{HashMap, HashSet};

use dtls_psk::{Aead, Crypto, RunningHash as _, RunningMac as _, RustCrypto};

/// Who sent a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The device.
    Client,
    /// The server.
    Server,
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Sniffer {
    psk: Vec<u8>,
    handshake: Handshake,
    masters: HashMap<Vec<u8>, [u8; 48]>,
    /// The keys of both directions, oldest first.
    keys: Vec<[Direction; 2]>,
    seen: HashSet<([u8; 16], [u8; 8])>,
    /// Records that were opened.
    pub records: usize,
    /// Handshakes whose keys were derived: full and abbreviated ones.
    pub handshakes: [usize; 2],
    /// What is wrong, in words.
    pub faults: Vec<String>,
}

/// The handshake under way.
#[derive(Debug, Default)]
struct Handshake {
    transcript: Vec<u8>,
    messages: HashSet<(u8, Vec<u8>)>,
    client_random: Vec<u8>,
    server_random: Vec<u8>,
    offered: Vec<u8>,
    session: Vec<u8>,
}

/// The key and implicit nonce of one direction.
#[derive(Clone, Debug)]
struct Direction {
    key: [u8; 16],
    iv: [u8; 4],
}

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const CLIENT_KEY_EXCHANGE: u8 = 16;
/// Length of the Connection IDs in records to the server.
const ID: usize = 6;
const HANDSHAKE: u8 = 22;
const CONNECTION_ID: u8 = 25;
const TAG: usize = 8;

impl Sniffer {
    /// One that knows the key.
    #[must_use]
    pub fn new(psk: &[u8]) -> Self {
        Self { psk: psk.to_vec(), ..Self::default() }
    }

    /// Takes a datagram in the order in which it was sent.
    pub fn datagram(&mut self, from: From, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(rest) = self.record(from, bytes) else {
                return self.faults.push(format!("{from:?} sent what is no record: {bytes:02x?}"));
            };
            bytes = rest;
        }
    }

    fn record<'d>(&mut self, from: From, bytes: &'d [u8]) -> Option<&'d [u8]> {
        let content_type = *bytes.first()?;
        let has_id = content_type == CONNECTION_ID;
        let head = if has_id { 11 + ID } else { 11 };
        let number: [u8; 8] = bytes.get(3..11)?.try_into().ok()?;
        let id = bytes.get(11..head)?;
        let (length, rest) = bytes.get(head..)?.split_first_chunk::<2>()?;
        let (body, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        if !number.starts_with(&[0, 0]) {
            self.protected(from, content_type, number, id, body);
        } else if content_type == HANDSHAKE {
            let mut messages = body;
            while !messages.is_empty() {
                messages = self.message(messages)?;
            }
        }
        Some(rest)
    }

    fn message<'d>(&mut self, bytes: &'d [u8]) -> Option<&'d [u8]> {
        let (head, rest) = bytes.split_first_chunk::<12>()?;
        let [kind, lengths @ ..] = head;
        let length = u32::from_be_bytes([0, lengths[0], lengths[1], lengths[2]]);
        if head.get(6..9) != Some(&[0, 0, 0]) || head.get(9..12) != head.get(1..4) {
            self.faults.push("a handshake message in fragments".to_owned());
        }
        let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let whole = bytes.get(..bytes.len().checked_sub(rest.len())?)?;
        match *kind {
            HELLO_VERIFY_REQUEST => return Some(rest),
            CLIENT_HELLO => {
                let session = vector(body.get(34..)?)?;
                let cookie = vector(body.get(35_usize.checked_add(session.len())?..)?)?;
                let is_repeated = self.handshake.messages.contains(&(CLIENT_HELLO, whole.to_vec()));
                if cookie.is_empty() || is_repeated {
                    return Some(rest);
                }
                self.handshake = Handshake {
                    client_random: body.get(2..34)?.to_vec(),
                    offered: session.to_vec(),
                    ..Handshake::default()
                };
            }
            _ => {}
        }
        if !self.handshake.messages.insert((*kind, whole.to_vec())) {
            return Some(rest);
        }
        self.handshake.transcript.extend_from_slice(whole);
        match *kind {
            SERVER_HELLO => {
                self.handshake.server_random = body.get(2..34)?.to_vec();
                self.handshake.session = vector(body.get(34..)?)?.to_vec();
                let Handshake { offered, session, .. } = &self.handshake;
                if !session.is_empty() && offered == session {
                    match self.masters.get(session).copied() {
                        Some(master) => self.derive(&master, 1),
                        None => self.faults.push("a session of a handshake that was not seen".to_owned()),
                    }
                }
            }
            CLIENT_KEY_EXCHANGE => {
                let length = u16::try_from(self.psk.len()).ok()?.to_be_bytes();
                let premaster = [&length[..], &vec![0; self.psk.len()], &length, &self.psk].concat();
                let mut hash = <RustCrypto as Crypto>::Sha256::new();
                hash.update(&self.handshake.transcript);
                let master = prf::<48>(&premaster, b"extended master secret", &hash.finish());
                self.masters.insert(self.handshake.session.clone(), master);
                self.derive(&master, 0);
            }
            _ => {}
        }
        Some(rest)
    }

    fn derive(&mut self, master: &[u8; 48], kind: usize) {
        let Handshake { client_random, server_random, .. } = &self.handshake;
        let block = prf::<40>(master, b"key expansion", &[&server_random[..], client_random].concat());
        let direction = |key: usize, iv: usize| Direction {
            key: core::array::from_fn(|index| {
                block.get(key.saturating_add(index)).copied().unwrap_or_default()
            }),
            iv: core::array::from_fn(|index| {
                block.get(iv.saturating_add(index)).copied().unwrap_or_default()
            }),
        };
        self.keys.push([direction(0, 32), direction(16, 36)]);
        if let Some(count) = self.handshakes.get_mut(kind) {
            *count = count.saturating_add(1);
        }
    }

    fn protected(&mut self, from: From, content_type: u8, number: [u8; 8], id: &[u8], body: &[u8]) {
        // RFC 9146 §5.3 and RFC 6655 §3.
        let length = body.len().saturating_sub(8 + TAG);
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        let version = [0xfe, 0xfd];
        let aad = if content_type == CONNECTION_ID {
            let head = [CONNECTION_ID, u8::try_from(id.len()).unwrap_or(u8::MAX), CONNECTION_ID];
            [&[0xff; 8][..], &head, &version, &number, id, &length].concat()
        } else {
            [&number[..], &[content_type], &version, &length].concat()
        };
        let Some((explicit, ciphertext)) = body.split_first_chunk::<8>() else {
            return self.faults.push(format!("{from:?} sent a record without a nonce"));
        };
        let Some((ciphertext, tag)) = ciphertext.split_last_chunk::<TAG>() else {
            return self.faults.push(format!("{from:?} sent a record without a tag"));
        };
        let opens = |direction: &&Direction| {
            let mut nonce = [0; 12];
            nonce.iter_mut().zip(direction.iv.iter().chain(explicit)).for_each(|(to, from)| *to = *from);
            let mut buffer = ciphertext.to_vec();
            RustCrypto::open(Aead::Ccm8, &direction.key, &nonce, &aad, &mut buffer, tag).is_some()
        };
        let known = self.keys.iter().rev().filter_map(|keys| keys.get(from as usize)).find(opens);
        match known.map(|direction| direction.key) {
            None => self.faults.push(format!("{from:?} sent record {number:02x?} under an unknown key")),
            Some(key) => {
                self.records = self.records.saturating_add(1);
                // What is in the nonce is what counts.
                if !self.seen.insert((key, *explicit)) {
                    self.faults.push(format!("{from:?} sent record {number:02x?} twice under one key"));
                }
            }
        }
    }
}

/// A vector with a length of one byte.
fn vector(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first()?;
    rest.get(..usize::from(*length))
}

/// The PRF of TLS 1.2 with SHA-256 (RFC 5246 §5).
fn prf<const N: usize>(secret: &[u8], label: &[u8], seed: &[u8]) -> [u8; N] {
    let mac = |parts: &[&[u8]]| {
        let mut mac = <RustCrypto as Crypto>::Hmac::new(secret);
        parts.iter().for_each(|part| mac.update(part));
        mac.finish()
    };
    let mut out = Vec::new();
    let mut turn = mac(&[label, seed]);
    while out.len() < N {
        out.extend(mac(&[&turn, label, seed]));
        turn = mac(&[&turn]);
    }
    core::array::from_fn(|index| out.get(index).copied().unwrap_or_default())
}
