//! RFC 8613 Appendix C, at every intermediate value it publishes, and messages of both ends byte for byte.

extern crate std;
use std::string::String;
use std::vec::Vec;

use lwm2m_coap::{Code, Delivery, Input, Instant, OptionNumber, Peer, Room, Token, TokenPolicy, Writer};

use super::context::{End, Request};
use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| std::format!("{byte:02x}")).collect()
}

const SECRET: &str = "0102030405060708090a0b0c0d0e0f10";
const SALT: &str = "9e7ca92223786340";

/// Inputs of one end: salt, Sender ID, Recipient ID and ID Context.
type Inputs = (&'static str, &'static str, &'static str, Option<&'static str>);

const C1_CLIENT: Inputs = (SALT, "", "01", None);
const C1_SERVER: Inputs = (SALT, "01", "", None);
const C2_CLIENT: Inputs = ("", "00", "01", None);
const C2_SERVER: Inputs = ("", "01", "00", None);
const C3_CLIENT: Inputs = (SALT, "", "01", Some("37cbf3210017a2d3"));
const C3_SERVER: Inputs = (SALT, "01", "", Some("37cbf3210017a2d3"));

fn parameters((salt, sender, recipient, id_context): Inputs) -> Parameters {
    let id = |hex| KeyId::new(&bytes(hex)).unwrap();
    let parameters =
        Parameters::new(MasterSecret::new(&bytes(SECRET)).unwrap(), id(sender), id(recipient)).unwrap();
    let parameters = parameters.with_salt(&bytes(salt)).unwrap();
    match id_context {
        Some(hex) => parameters.with_id_context(&bytes(hex)).unwrap(),
        None => parameters,
    }
}

fn session(inputs: Inputs, next: u64) -> Session {
    let mut session = Session::new(&parameters(inputs), [0; 16]);
    session.context.sequence = SenderSequence::restored(next);
    session.context.sequence.reserve(next + 1);
    session
}

// Appendix C.1 to C.3.
#[test]
fn keys_common_iv_and_first_nonces_are_derived() {
    for (inputs, sender, recipient, iv, own, other) in [
        (
            C1_CLIENT,
            "f0910ed7295e6ad4b54fc793154302ff",
            "ffb14e093c94c9cac9471648b4f98710",
            "4622d4dd6d944168eefb54987c",
            "4622d4dd6d944168eefb54987c",
            "4722d4dd6d944169eefb54987c",
        ),
        (
            C1_SERVER,
            "ffb14e093c94c9cac9471648b4f98710",
            "f0910ed7295e6ad4b54fc793154302ff",
            "4622d4dd6d944168eefb54987c",
            "4722d4dd6d944169eefb54987c",
            "4622d4dd6d944168eefb54987c",
        ),
        (
            C2_CLIENT,
            "321b26943253c7ffb6003b0b64d74041",
            "e57b5635815177cd679ab4bcec9d7dda",
            "be35ae297d2dace910c52e99f9",
            "bf35ae297d2dace910c52e99f9",
            "bf35ae297d2dace810c52e99f9",
        ),
        (
            C2_SERVER,
            "e57b5635815177cd679ab4bcec9d7dda",
            "321b26943253c7ffb6003b0b64d74041",
            "be35ae297d2dace910c52e99f9",
            "bf35ae297d2dace810c52e99f9",
            "bf35ae297d2dace910c52e99f9",
        ),
        (
            C3_CLIENT,
            "af2a1300a5e95788b356336eeecd2b92",
            "e39a0c7c77b43f03b4b39ab9a268699f",
            "2ca58fb85ff1b81c0b7181b85e",
            "2ca58fb85ff1b81c0b7181b85e",
            "2da58fb85ff1b81d0b7181b85e",
        ),
        (
            C3_SERVER,
            "e39a0c7c77b43f03b4b39ab9a268699f",
            "af2a1300a5e95788b356336eeecd2b92",
            "2ca58fb85ff1b81c0b7181b85e",
            "2da58fb85ff1b81d0b7181b85e",
            "2ca58fb85ff1b81c0b7181b85e",
        ),
    ] {
        let session = Session::new(&parameters(inputs), [0; 16]);
        let context = session.context();
        assert_eq!(context.keys().map(hex), [sender, recipient, iv], "{inputs:?}");
        let partial_iv = PartialIv::new(0).unwrap();
        let nonce = |of| hex(&context.nonce(of, partial_iv));
        assert_eq!((nonce(End::Sender), nonce(End::Recipient)), (own.into(), other.into()), "{inputs:?}");
    }
}

/// Message id, token, additional authenticated data, nonce, and the protected request.
type Sent = (u16, &'static str, &'static str, &'static str, &'static str);

const C4: Sent = (
    0x5d1f,
    "00003974",
    "8368456e63727970743040488501810a40411440",
    "4622d4dd6d944168eefb549868",
    "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e",
);
const C5: Sent = (
    0x71c3,
    "0000b932",
    "8368456e63727970743040498501810a4100411440",
    "bf35ae297d2dace910c52e99ed",
    "440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0",
);
const C6: Sent = (
    0x2f8e,
    "ef9bbf7a",
    "8368456e63727970743040488501810a40411440",
    "2ca58fb85ff1b81c0b7181b84a",
    "44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3",
);

// Appendix C.4 to C.6: requests, which the other end then reads.
#[test]
fn requests_are_the_published_ones() {
    for (client, server, (id, token, aad, nonce, protected)) in
        [(C1_CLIENT, C1_SERVER, C4), (C2_CLIENT, C2_SERVER, C5), (C3_CLIENT, C3_SERVER, C6)]
    {
        let mut near = session(client, 0x14);
        let partial_iv = PartialIv::new(0x14).unwrap();
        assert_eq!(hex(&near.context().aad(Request { by: End::Sender, partial_iv })), aad);
        assert_eq!(hex(&near.context().nonce(End::Sender, partial_iv)), nonce);

        let (mut datagram, _) = request(&mut near, (id, token));
        assert_eq!(hex(&datagram), protected);
        let mut far = session(server, 0);
        let (mut peer, mut none) = (peer(0), heapless::Vec::<Observation, 0>::new());
        let mut protection = Protection::new(&mut far, &mut none, None);
        let Input::Request { message, .. } = peer.handle(NOW, &mut datagram, &mut protection) else {
            panic!()
        };
        assert_eq!((message.code, message.options.uri_path().next()), (Code::GET, Some(&b"tv1"[..])));
        assert!(message.payload.is_empty());
    }
}

// Appendix C.7 and C.8: a response under the nonce of its request, and one with a Partial IV of its own, as it is sent while
// nobody knows whether the request is a replay.
#[test]
fn responses_are_the_published_ones() {
    for (window, protected) in [
        (ReplayWindow::FRESH, "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106"),
        (ReplayWindow::LOST, "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e"),
    ] {
        let mut far = session(C1_SERVER, 0);
        far.context.window = window;
        let (mut server, mut none) = (peer(0), heapless::Vec::<Observation, 0>::new());
        let mut buffer = [0; 256];
        let mut datagram = bytes(C4.4);
        let mut protection = Protection::new(&mut far, &mut none, None);
        let Input::Request { mut exchange, .. } = server.handle(NOW, &mut datagram, &mut protection) else {
            panic!()
        };
        assert_eq!(exchange.binding().standing() == Standing::Unproven, window.is_lost());
        let mut writer = Writer::new(&mut buffer, Room { head: 32, tail: 8 }, Code::CONTENT);
        writer.payload(b"Hello World!").unwrap();
        let range = server.respond(NOW, &mut exchange, writer, &mut protection, &mut |_| {}).unwrap();
        let mut datagram = buffer[range].to_vec();
        assert_eq!(hex(&datagram), protected);

        let mut near = session(C1_CLIENT, 0x14);
        let (_, mut client) = request(&mut near, (0x5d1f, "00003974"));
        let mut protection = Protection::new(&mut near, &mut none, None);
        let Input::Response { message, .. } = client.handle(NOW, &mut datagram, &mut protection) else {
            panic!()
        };
        assert_eq!((message.code, message.payload), (Code::CONTENT, &b"Hello World!"[..]));
    }
}

const NOW: Instant = Instant::from_millis(0);

static KNOWN: lwm2m_coap::Parameters = lwm2m_coap::Parameters {
    known: &[OptionNumber::URI_HOST, OptionNumber::URI_PATH],
    ..lwm2m_coap::Parameters::DEFAULT
};

type Remote = Peer<heapless::Vec<u8, 128>, 1, 2, 0, Binding>;

fn peer(id: u16) -> Remote {
    Peer::new(&KNOWN, TokenPolicy::Random, &mut |out: &mut [u8]| {
        if let [low, high] = out {
            [*low, *high] = id.to_le_bytes();
        }
    })
}

/// GET coap://localhost/tv1, and who waits for the response.
fn request(session: &mut Session, (id, token): (u16, &str)) -> (Vec<u8>, Remote) {
    let (mut client, mut none) = (peer(id), heapless::Vec::<Observation, 0>::new());
    let mut buffer = [0; 256];
    let mut writer = Writer::new(&mut buffer, Room { head: 64, tail: 8 }, Code::GET);
    writer.option(OptionNumber::URI_HOST, b"localhost").unwrap();
    writer.option(OptionNumber::URI_PATH, b"tv1").unwrap();
    let mut protection = Protection::new(session, &mut none, None);
    let token = Token::new(&bytes(token)).unwrap();
    let (_, range) =
        client.request(NOW, Delivery::Confirmable, token, writer, &mut protection, &mut |_| {}).unwrap();
    (buffer[range].to_vec(), client)
}
