//! RFC 8613 Appendix B.2 with fixed random numbers: the keys of both ends at each step and all four messages, computed from the
//! RFC by another program with another library. The RFC itself publishes none.

extern crate std;
use std::string::String;
use std::vec::Vec;

use lwm2m_coap::{Code, Delivery, Input, Instant, OptionNumber, Peer, Room, TokenPolicy, Writer};

use super::*;

const R1: [u8; 8] = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
const R2: &str = "000000003e889abc2479426f9e01fcce";
const R3: [u8; 8] = [0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37];

/// The client's key, the server's key and the Common IV of R1, of R2 ‖ R1 and of R2 ‖ R3.
const FIRST: [&str; 3] =
    ["b54ab033aedd83811d34c6602a80678d", "856cb1a34009030d148b99f554572d3d", "21fa2c387e869c0a18f4da4d69"];
const SECOND: [&str; 3] =
    ["3cd6dbedc47ea83d969d0203e87af1e6", "2f72815a10b46962ca9456a5eb8247cb", "767abd0a69ab537dbff89cfe4d"];
const THIRD: [&str; 3] =
    ["fb4a289bb6b702b64b1a930a6cdb3ada", "505c7e7c5086134e41463da3c65618ef", "31afca92a9df0dcdd4b2f95b95"];

const REQUEST_1: &str = "41021000019c190009481011121314151617ffad06f856df66de6d5dfd22e86e";
const RESPONSE_1: &str = "61441000019d06101150000000003e889abc2479426f9e01fcceffa35b6a69f2d56ed199";
const REQUEST_2: &str =
    "41021001029d1019001a5818000000003e889abc2479426f9e01fcce3031323334353637ff23aeed8c59b10f83bbba74d965";
const RESPONSE_2: &str = "614410010290ff29f05dfd40110d1dfbbe016a063887";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| std::format!("{byte:02x}")).collect()
}

/// The keys of RFC 8613 Appendix C.1: the client has no id, the server 01.
fn parameters(sender: &[u8], recipient: &[u8]) -> Parameters {
    let secret: Vec<u8> = (1..=16).collect();
    let [sender, recipient] = [sender, recipient].map(|id| KeyId::new(id).unwrap());
    let parameters = Parameters::new(MasterSecret::new(&secret).unwrap(), sender, recipient).unwrap();
    parameters.with_salt(&[0x9e, 0x7c, 0xa9, 0x22, 0x23, 0x78, 0x63, 0x40]).unwrap()
}

type Remote = Peer<heapless::Vec<u8, 128>, 1, 4, 0, Binding>;

static KNOWN: lwm2m_coap::Parameters =
    lwm2m_coap::Parameters { known: &[OptionNumber::URI_PATH], ..lwm2m_coap::Parameters::DEFAULT };

const NOW: Instant = Instant::from_millis(1000);

fn rederivation(parameters: &Parameters, random: [u8; 8]) -> Rederivation<'_> {
    Rederivation { parameters, now: NOW, random, durable: false }
}

fn session(parameters: &Parameters) -> Session {
    Session::begin(parameters, None, SenderSequence::VOLATILE, ReplayWindow::FRESH, [0x2a; 16])
}

#[test]
fn keys_and_messages_of_both_ends_are_those_of_another_program() {
    let (near, far) = (parameters(&[], &[1]), parameters(&[1], &[]));
    let (mut device, mut server) = (session(&near), session(&far));
    let mut id = |out: &mut [u8]| out.copy_from_slice(&[0x00, 0x10]);
    let mut client = Remote::new(&KNOWN, TokenPolicy::SECURED, &mut id);
    let mut peer = Remote::new(&KNOWN, TokenPolicy::SECURED, &mut id);

    device.rederive(&rederivation(&near, R1));
    assert_eq!(device.context().keys().map(hex), FIRST);
    for (request, response, code, payload) in [
        (REQUEST_1, RESPONSE_1, Code::UNAUTHORIZED, &b""[..]),
        (REQUEST_2, RESPONSE_2, Code::CONTENT, b"Hello"),
    ] {
        let mut datagram = ask(&mut client, &mut device);
        assert_eq!(hex(&datagram), request);
        let mut answer =
            answer(&mut peer, &mut server, rederivation(&far, DRAWN), &mut datagram, (code, payload));
        assert_eq!(hex(&answer), response);
        if code == Code::UNAUTHORIZED {
            let id_context: Vec<u8> = [&unhex(R2)[..], &R1].concat();
            let second =
                Context::derive(&near, Some(&id_context), SenderSequence::VOLATILE, ReplayWindow::FRESH);
            assert_eq!(second.keys().map(hex), SECOND);
        }
        let mut none = heapless::Vec::<Observation, 0>::new();
        let mut protection = Protection::new(&mut device, &mut none, Some(rederivation(&near, R3)));
        let Input::Response { message, .. } = client.handle(NOW, &mut answer, &mut protection) else {
            panic!("no response")
        };
        assert_eq!((message.code, message.payload), (code, payload));
        assert_eq!(device.context().keys().map(hex), THIRD);
    }
    let [client_key, server_key, common_iv] = THIRD;
    assert_eq!(server.context().keys().map(hex), [server_key, client_key, common_iv]);
}

/// GET /tv1
fn ask(client: &mut Remote, session: &mut Session) -> Vec<u8> {
    let (mut buffer, mut none) = ([0; 256], heapless::Vec::<Observation, 0>::new());
    let token = client.next_token(&mut |_| {}, |_| false);
    let mut writer = Writer::new(&mut buffer, session.room(), Code::GET);
    writer.option(OptionNumber::URI_PATH, b"tv1").unwrap();
    let mut protection = Protection::new(session, &mut none, None);
    let delivery = Delivery::Confirmable;
    let (_, range) = client.request(NOW, delivery, token, writer, &mut protection, &mut |_| {}).unwrap();
    buffer[range].to_vec()
}

fn answer(
    server: &mut Remote,
    session: &mut Session,
    rederivation: Rederivation<'_>,
    datagram: &mut [u8],
    (code, payload): (Code, &[u8]),
) -> Vec<u8> {
    let (mut buffer, mut none) = ([0; 256], heapless::Vec::<Observation, 0>::new());
    let mut protection = Protection::new(session, &mut none, Some(rederivation));
    let Input::Request { mut exchange, message } = server.handle(NOW, datagram, &mut protection) else {
        panic!("no request")
    };
    assert_eq!(message.options.uri_path().next(), Some(&b"tv1"[..]));
    assert_eq!(exchange.binding().standing() == Standing::Rederiving, code == Code::UNAUTHORIZED);
    let mut writer = Writer::new(&mut buffer, Room { head: 64, tail: 8 }, code);
    writer.payload(payload).unwrap();
    let range = server.respond(NOW, &mut exchange, writer, &mut protection, &mut |_| {}).unwrap();
    buffer[range].to_vec()
}

/// What the server draws for R2.
const DRAWN: [u8; 8] = 0x89ab_cdef_u64.to_le_bytes();

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
