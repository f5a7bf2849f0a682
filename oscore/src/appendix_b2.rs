//! RFC 8613 Appendix B.2 with fixed random numbers: the keys of both ends at each step and all four messages, computed from the
//! RFC by another program with another library. The RFC itself publishes none.

extern crate std;
use std::string::String;
use std::vec::Vec;

use lwm2m_coap::{Code, Delivery, Input, Instant, OptionNumber, Peer, Room, TokenPolicy, Writer};

use super::*;

const R1: [u8; 8] = [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17];
const R2: &str = "000000003e889abc8573fb0036be79d2";
const R3: [u8; 8] = [0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37];

/// The client's key, the server's key and the Common IV of R1, of R2 ‖ R1 and of R2 ‖ R3.
const FIRST: [&str; 3] =
    ["b54ab033aedd83811d34c6602a80678d", "856cb1a34009030d148b99f554572d3d", "21fa2c387e869c0a18f4da4d69"];
const SECOND: [&str; 3] =
    ["b6e12e9b6608464e62a968d90fe2045e", "b1c9712a4f2c532692161367d21dc84b", "649a2fbf2af24e23267b22351c"];
const THIRD: [&str; 3] =
    ["f2a49f3a07abb80aae845e2e9f2ee027", "f6b0ce333ecb523b9eeff22f16a6ce97", "468f5b1ef0a21f91732e288ea7"];

const REQUEST_1: &str = "41021000019c190009481011121314151617ffad06f856df66de6d5dfd22e86e";
const RESPONSE_1: &str = "61441000019d06101150000000003e889abc8573fb0036be79d2fff2c54fc4920d558343";
const REQUEST_2: &str =
    "41021001029d1019001a5818000000003e889abc8573fb0036be79d23031323334353637ffdb080fbeb20bd47185e51c6e0b";
const RESPONSE_2: &str = "614410010290ffb6af6994ec0186622edf8f482547ba";

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

const KEY: [u8; 32] = [0x2a; 32];

fn draws(random: &[u8]) -> impl FnMut(&mut [u8]) {
    move |out| out.copy_from_slice(&random[..out.len()])
}

fn rederivation<'a>(parameters: &'a Parameters, rng: &'a mut lwm2m_coap::Rng<'a>) -> Rederivation<'a> {
    Rederivation { parameters, key: &KEY, now: NOW, rng, durable: false }
}

#[test]
fn keys_and_messages_of_both_ends_are_those_of_another_program() {
    let (near, far) = (parameters(&[], &[1]), parameters(&[1], &[]));
    let (mut device, mut server) = (Session::new(&near), Session::new(&far));
    let mut id = |out: &mut [u8]| out.copy_from_slice(&[0x00, 0x10]);
    let mut client = Remote::new(&KNOWN, TokenPolicy::SECURED, &mut id);
    let mut peer = Remote::new(&KNOWN, TokenPolicy::SECURED, &mut id);

    device.rederive(&mut rederivation(&near, &mut draws(&R1)));
    assert_eq!(device.context().keys().map(hex), FIRST);
    for (request, response, code, payload) in [
        (REQUEST_1, RESPONSE_1, Code::UNAUTHORIZED, &b""[..]),
        (REQUEST_2, RESPONSE_2, Code::CONTENT, b"Hello"),
    ] {
        let mut datagram = ask(&mut client, &mut device);
        assert_eq!(hex(&datagram), request);
        let mut rng = draws(&DRAWN);
        let mut answer =
            answer(&mut peer, &mut server, rederivation(&far, &mut rng), &mut datagram, (code, payload));
        assert_eq!(hex(&answer), response);
        if code == Code::UNAUTHORIZED {
            let id_context: Vec<u8> = [&unhex(R2)[..], &R1].concat();
            let second =
                Context::derive(&near, Some(&id_context), SenderSequence::VOLATILE, ReplayWindow::FRESH);
            assert_eq!(second.keys().map(hex), SECOND);
        }
        let (mut rng, mut none) = (draws(&R3), heapless::Vec::<Observation, 0>::new());
        let mut protection = Protection::new(&mut device, &mut none, Some(rederivation(&near, &mut rng)));
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
    assert_eq!(exchange.binding().is_rederiving(), code == Code::UNAUTHORIZED);
    let mut writer = Writer::new(&mut buffer, Room { head: 64, tail: 8 }, code);
    writer.payload(payload).unwrap();
    let range = server.respond(NOW, &mut exchange, writer, &mut protection, &mut |_| {}).unwrap();
    buffer[range].to_vec()
}

/// What the server draws for R2.
const DRAWN: [u8; 4] = 0x89ab_cdef_u32.to_le_bytes();

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
