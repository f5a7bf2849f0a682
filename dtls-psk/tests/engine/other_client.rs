//! A second client, written from the RFCs and not with the engine, for what that of this crate does not do: session tickets
//! (RFC 5077) and TLS_PSK_WITH_AES_128_CBC_SHA256. Over a perfect link it makes one handshake, for the model.

use crate::recordings::*;
use crate::support::*;
use ccm::aead::{AeadInPlace, KeyInit};
use ccm::consts::{U8, U12};
use dtls_psk::{Psk, Suite};
use hmac::Mac as _;
use sha2::Digest as _;

/// Whether it speaks this suite.
pub(crate) fn knows(suite: Suite) -> bool {
    suite == Suite::PskAes128Ccm8 || is_cbc(suite)
}

fn is_cbc(suite: Suite) -> bool {
    suite.code() == 0x00ae
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = <hmac::Hmac<sha2::Sha256> as hmac::Mac>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

/// RFC 5246 §5.
fn prf(secret: &[u8], label: &str, seed: &[u8], length: usize) -> Vec<u8> {
    let seed = [label.as_bytes(), seed].concat();
    let (mut out, mut a) = (Vec::new(), seed.clone());
    while out.len() < length {
        a = hmac(secret, &[&a]);
        out.extend(hmac(secret, &[&a, &seed]));
    }
    out.truncate(length);
    out
}

/// What one side encrypts with (RFC 5246 §6.3).
pub(crate) struct Keys {
    suite: Suite,
    mac: Vec<u8>,
    key: Vec<u8>,
    iv: Vec<u8>,
}

impl Keys {
    /// Of the client and the server.
    fn of(suite: Suite, master_secret: &[u8], randoms: [&[u8]; 2]) -> [Self; 2] {
        let [client, server] = randoms;
        let mut block = prf(master_secret, "key expansion", &[server, client].concat(), 104);
        let mut take = |length| block.drain(..length).collect::<Vec<_>>();
        let (mac, iv) = if is_cbc(suite) { (32, 0) } else { (0, 4) };
        let [macs, keys, ivs] = [mac, 16, iv].map(|length| [take(length), take(length)]);
        let mut sides = macs.into_iter().zip(keys).zip(ivs);
        [(); 2].map(|()| {
            let ((mac, key), iv) = sides.next().unwrap();
            Self { suite, mac, key, iv }
        })
    }

    /// Those of the side that was saved, with a suite of AES_128_CCM_8.
    #[cfg(feature = "rpk")]
    pub(crate) fn of_saved(saved: &[u8]) -> Self {
        // Behind format, flags, suite and three numbers.
        let keys = &saved[1 + 1 + 2 + 3 * 8..];
        Self {
            suite: Suite::PskAes128Ccm8,
            mac: Vec::new(),
            key: keys[..16].to_vec(),
            iv: keys[16..20].to_vec(),
        }
    }

    /// What is in a record of the protected epoch, of AES_128_CCM_8.
    pub(crate) fn open(&self, record: &[u8]) -> Vec<u8> {
        let (sequence, sealed) = (&record[3..11], &record[21..]);
        let (content, tag) = sealed.split_at(sealed.len() - 8);
        let length = (content.len() as u16).to_be_bytes();
        let covered = [sequence, &[record[0], 0xfe, 0xfd], &length].concat();
        let nonce = [&self.iv[..], sequence].concat();
        let cipher = ccm::Ccm::<aes::Aes128, U8, U12>::new_from_slice(&self.key).unwrap();
        let mut content = content.to_vec();
        let nonce = nonce.as_slice().into();
        cipher.decrypt_in_place_detached(nonce, &covered, &mut content, tag.into()).unwrap();
        content
    }

    /// A record of the protected epoch, whose first bytes are those of `explicit` where the suite leaves the choice.
    pub(crate) fn seal(&self, number: u64, content_type: u8, content: &[u8], explicit: &[u8]) -> Vec<u8> {
        let sequence = ((1 << 48) | number).to_be_bytes();
        let length = (content.len() as u16).to_be_bytes();
        let covered = [&sequence[..], &[content_type, 0xfe, 0xfd], &length].concat();
        let mut sealed = content.to_vec();
        if is_cbc(self.suite) {
            sealed.extend(hmac(&self.mac, &[&covered, content]));
            let padding = 15 - sealed.len() % 16;
            sealed.resize(sealed.len() + padding + 1, padding as u8);
            let iv = &explicit[..16];
            cbc_encrypt(&self.key, iv, &mut sealed);
            return record(content_type, 1, number, &[iv, &sealed].concat());
        }
        // RFC 6655 §3
        let nonce = [&self.iv[..], &sequence].concat();
        let cipher = ccm::Ccm::<aes::Aes128, U8, U12>::new_from_slice(&self.key).unwrap();
        let tag = cipher.encrypt_in_place_detached(nonce.as_slice().into(), &covered, &mut sealed).unwrap();
        record(content_type, 1, number, &[&sequence[..], &sealed, &tag].concat())
    }
}

#[cfg(feature = "cbc")]
fn cbc_encrypt(key: &[u8], iv: &[u8], bytes: &mut [u8]) {
    use aes::cipher::{BlockEncryptMut as _, KeyIvInit as _, block_padding::NoPadding};
    let cipher = cbc::Encryptor::<aes::Aes128>::new_from_slices(key, iv).unwrap();
    cipher.encrypt_padded_mut::<NoPadding>(bytes, bytes.len()).unwrap();
}

#[cfg(not(feature = "cbc"))]
fn cbc_encrypt(_: &[u8], _: &[u8], _: &mut [u8]) {
    panic!("no suite of CBC is there");
}

fn extension(number: u8, value: &[u8]) -> Vec<u8> {
    [&[0, number][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// The id of a session and the ticket that the client sends.
fn offered(kind: Kind) -> (Vec<u8>, Option<Vec<u8>>) {
    #[cfg(feature = "resumption")]
    {
        let session = made_up_session(kind.suite);
        let sealed = |root| {
            let ticket =
                dtls_psk::TicketKey::<dtls_psk::RustCrypto>::derive(&[root; 32], 1).seal(&session, b"", 100);
            (Vec::new(), Some(ticket.unwrap().bytes().to_vec()))
        };
        match kind.known {
            Known::Nothing => (Vec::new(), None),
            Known::Session | Known::Forgotten | Known::Ticket => (session.id().to_vec(), None),
            Known::NewTicket => (Vec::new(), Some(Vec::new())),
            Known::RenewedTicket => sealed(1),
            Known::RefusedTicket => sealed(2),
        }
    }
    #[cfg(not(feature = "resumption"))]
    {
        let _ = kind;
        (Vec::new(), None)
    }
}

/// RFC 4279 §2, RFC 7627 §4: the master secret after these messages, the last of which is the ClientKeyExchange.
fn master_secret_of(psk: Psk<'_>, transcript: &[u8]) -> Vec<u8> {
    let length = (psk.key.len() as u16).to_be_bytes();
    let premaster_secret = [&length[..], &vec![0; psk.key.len()], &length, psk.key].concat();
    prf(&premaster_secret, "extended master secret", &sha2::Sha256::digest(transcript), 48)
}

/// The keys of client and server in a handshake without a share, of which these are the messages: ClientHello, ServerHello and so
/// on up to the ClientKeyExchange.
pub(crate) fn keys_of(suite: Suite, psk: Psk<'_>, messages: &[Vec<u8>]) -> [Keys; 2] {
    // Behind the header and the version.
    let randoms = [&messages[0], &messages[1]].map(|hello| &hello[12 + 2..][..32]);
    Keys::of(suite, &master_secret_of(psk, &messages.concat()), randoms)
}

/// Makes a handshake with `server`, and checks the server's Finished.
pub(crate) fn record_with(kind: Kind, psk: Psk<'_>, random: [u8; 32], mut server: Server) -> Recording {
    let (session_id, ticket) = offered(kind);
    let mut extensions = extension(0x17, &[]);
    extensions.extend(ticket.iter().flat_map(|ticket| extension(35, ticket)));
    let suites = [&kind.suite.code().to_be_bytes()[..], &[0x00, 0xff]].concat();
    let mut hello = Hello { random, session_id, suites, extensions: Some(extensions), ..Hello::new() };
    let first = hello.datagram(0);
    let mut records = split(&hello.send(&mut server, at(0)).concat(), 0);
    let hellos = [first, hello.datagram(1)];
    let flight = Said::of(&records).messages;
    let mut transcript = hellos[1][13..].to_vec();
    flight.iter().for_each(|message| transcript.extend(&message[13..]));
    let randoms = [&random[..], &flight[0][25 + 2..][..32]];
    let finished = |label, master_secret: &[u8], transcript: &[u8], message_seq| {
        let verify_data = prf(master_secret, label, &sha2::Sha256::digest(transcript), 12);
        fragment(20, 12, message_seq, 0, &verify_data)
    };
    let mut said = Said { change_cipher_spec: record(20, 0, 8, &[1]), ..Said::default() };
    let mut seal_all = |keys: &Keys, message: &[u8]| {
        let explicit = [0x1e; 16];
        let seal = |number: usize, content_type, content: &[u8]| {
            keys.seal(number as u64, content_type, content, &explicit)
        };
        said.finished = (0..COPIES).map(|copy| seal(copy, 22, message)).collect();
        said.data = (0..DATA).map(|number| seal(COPIES + number, 23, &data(number))).collect();
        said.close = seal(COPIES + DATA, 21, &[1, 0]);
        [&said.change_cipher_spec[..], &said.finished[COPIES - 1]].concat()
    };
    if kind.known.is_abbreviated() {
        let keys = Keys::of(kind.suite, SECRET, randoms);
        let message_seq = flight.len() as u16 + 1;
        let from_server = finished("server finished", SECRET, &transcript, message_seq);
        let came = records.last().unwrap();
        assert_eq!(*came, keys[1].seal(0, 22, &from_server, &came[13..]), "{kind:?}");
        transcript.extend(from_server);
        let message = finished("client finished", SECRET, &transcript, 2);
        let last = seal_all(&keys[0], &message);
        assert_eq!(server.handle(at(0), &last).0, [Event::Resumed], "{kind:?}");
    } else {
        let body = [&(psk.identity.len() as u16).to_be_bytes(), psk.identity].concat();
        let key_exchange = fragment(16, body.len(), 2, 0, &body);
        transcript.extend(&key_exchange);
        let master_secret = master_secret_of(psk, &transcript);
        let keys = Keys::of(kind.suite, &master_secret, randoms);
        let message = finished("client finished", &master_secret, &transcript, 3);
        let last = [record(22, 0, 8, &key_exchange), seal_all(&keys[0], &message)].concat();
        said.messages = vec![record(22, 0, 8, &key_exchange)];
        let (events, answer) = server.handle(at(0), &last);
        assert_eq!(events, [Event::Established], "{kind:?}");
        let answer = split(&answer.concat(), 0);
        let messages = Said::of(&answer).messages;
        transcript.extend(message);
        messages.iter().for_each(|message| transcript.extend(&message[13..]));
        let message_seq = (flight.len() + messages.len()) as u16 + 1;
        let from_server = finished("server finished", &master_secret, &transcript, message_seq);
        let came = answer.last().unwrap();
        assert_eq!(*came, keys[1].seal(0, 22, &from_server, &came[13..]), "{kind:?}");
        records.extend(answer);
    }
    let from_server = Said::of(&records);
    let tickets = from_server.messages.iter().filter(|message| message[13] == 4).count();
    assert_eq!(tickets, usize::from(kind.known.has_tickets()), "{kind:?}");
    Recording { hellos, client: said, server: from_server }
}
