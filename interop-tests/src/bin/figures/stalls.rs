//! How long a handshake keeps a thread of the server that reads packets: every call of the engine, without what its owner has done
//! elsewhere.

use std::borrow::BorrowMut;
use std::time::{Duration, Instant as Clock};

use dtls_psk::{
    Accepted, Answer, CertificateType, CertificateTypes, ClientCertificate, Config, Connection, CookieJar,
    Crypto, Datagram, Handshake, Operation, Psk, Suite, Suites,
};
use interop_tests::owner::Owner;
use lwm2m_server::Provider;

use crate::security::{micros, now, random};
use crate::table::Table;

const KEY: &[u8; 16] = b"0123456789abcdef";

type Client = Connection<2048, Handshake<2048, Provider>, Provider>;
type Server = Connection<2048, Box<Handshake<2048, Provider>>, Provider>;

pub(crate) fn measure(effort: u32) -> Table {
    let title = "DTLS 1.2, what a handshake keeps a thread of the server that reads packets";
    let mut table = Table::new(title, &["suite", "group", "longest step", "all steps", "goal"]);
    for (suite, x25519) in [
        (Suite::PskAes128Ccm8, None),
        (Suite::EcdhePskAes128Ccm8, Some(false)),
        (Suite::EcdhePskAes128Ccm8, Some(true)),
        (Suite::EcdheEcdsaAes128Ccm8, Some(false)),
        (Suite::EcdheEcdsaAes128Ccm8, Some(true)),
    ] {
        let group = x25519.map_or("–", |x25519| if x25519 { "x25519" } else { "secp256r1" });
        let steps = steps(effort, suite, x25519 == Some(true));
        let longest = steps.iter().max().copied().unwrap_or_default();
        table.row([
            suite.name().into(),
            group.into(),
            micros(longest),
            micros(steps.iter().sum()),
            "–".into(),
        ]);
    }
    table.note(
        "Each call of the engine on the server's side, the shortest of many handshakes, by the clock on the wall. The curves are by \
         AWS-LC. Receiving and sending are not in it.",
    );
    table
}

/// How long each step takes, the shortest of many times.
fn steps(effort: u32, suite: Suite, prefers_x25519: bool) -> Vec<Duration> {
    let owners = [Owner::device(), Owner::server()];
    let mut least: Vec<Duration> = Vec::new();
    for _ in 0..500 * effort {
        let mut steps = Steps::default();
        handshake(suite, prefers_x25519, &owners, &mut steps);
        match least.is_empty() {
            true => least = steps.0,
            false => least.iter_mut().zip(steps.0).for_each(|(least, step)| *least = step.min(*least)),
        }
    }
    least
}

#[derive(Default)]
struct Steps(Vec<Duration>);

impl Steps {
    fn take<T>(&mut self, step: impl FnOnce() -> T) -> T {
        let began = Clock::now();
        let taken = step();
        self.0.push(began.elapsed());
        taken
    }
}

fn handshake(suite: Suite, prefers_x25519: bool, owners: &[Owner; 2], steps: &mut Steps) {
    let [device, owner] = owners;
    let types = CertificateTypes { raw_public_key: false, x509: true };
    let config = Config::DEFAULT
        .with_suites(Suites::new(&[suite]).expect("one suite"))
        .with_certificate_types(types)
        .with_x25519_preferred(prefers_x25519);
    let memory = Handshake::default();
    let mut client = if Suites::PSK.contains(suite) {
        let psk = Psk { identity: b"device", key: KEY };
        Client::client(now(), &config, psk, &mut random, memory)
    } else {
        let certificate = ClientCertificate::X509 { server_name: None };
        Client::certificate_client(now(), &config, certificate, &mut random, memory)
    }
    .expect("a suite of this kind");
    let mut jar = CookieJar::<Provider>::with_crypto(now(), &mut random);
    let (mut out, mut reply) = ([0; 2048], [0; 512]);
    let mut server = loop {
        let length = client.poll_transmit(now(), &mut out).expect("a ClientHello");
        match jar.accept(now(), &config, &mut random, b"address", &out[..length], &mut reply) {
            Accepted::Reply(length) => drop(client.handle(now(), &mut Datagram::new(&mut reply[..length]))),
            Accepted::Verified(hello) => {
                let memory = Box::default();
                let server = steps.take(|| Server::server(now(), &config, &hello, &mut random, memory));
                break server.expect("randomness that is not all zeros");
            }
            _ => unreachable!("an honest ClientHello"),
        }
    };
    answer(&mut server, owner, steps);
    for _ in 0..2 {
        deliver(&mut server, steps, &mut client, &mut Steps::default(), device);
        deliver(&mut client, &mut Steps::default(), &mut server, steps, owner);
    }
    assert!(client.is_established() && server.is_established());
}

/// Hands all that one side has to say to the other, which answers what it is asked.
fn deliver<F, T>(
    from: &mut Connection<2048, F, Provider>,
    said: &mut Steps,
    to: &mut Connection<2048, T, Provider>,
    heard: &mut Steps,
    owner: &Owner,
) where
    F: BorrowMut<Handshake<2048, Provider>>,
    T: BorrowMut<Handshake<2048, Provider>>,
{
    let mut out = [0; 2048];
    while let Some(length) = said.take(|| from.poll_transmit(now(), &mut out)) {
        let mut datagram = Datagram::new(&mut out[..length]);
        while heard.take(|| to.handle(now(), &mut datagram)).is_some() {}
        answer(to, owner, heard);
    }
}

fn answer<H>(asking: &mut Connection<2048, H, Provider>, owner: &Owner, steps: &mut Steps)
where
    H: BorrowMut<Handshake<2048, Provider>>,
{
    while let Some(pending) = asking.poll_pending() {
        let id = pending.id;
        let chain: Vec<&[u8]> = owner.chain.iter().map(Vec::as_slice).collect();
        let signature;
        let answer = match pending.operation {
            Operation::LookUpPsk { .. } => Answer::Psk { key: KEY },
            Operation::CheckPeer { .. } => Answer::Trusted,
            Operation::Present { certificate_type: CertificateType::X509 } => Answer::Certificates(&chain),
            Operation::Compute(computation) => Answer::Computed(computation.run::<Provider>()),
            Operation::Sign { digest } => {
                signature = Provider::p256_sign(&owner.secret, digest).expect("a key of P-256");
                Answer::Signature(&signature)
            }
            _ => Answer::Unknown,
        };
        let _ = steps.take(|| asking.provide(now(), id, answer));
    }
}
