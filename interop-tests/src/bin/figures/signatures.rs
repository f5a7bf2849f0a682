//! DTLS with certificates: what a handshake costs beside `dimpl`, beside OpenSSL, and beside the arithmetic on P-256 in it.

use std::borrow::BorrowMut;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock, SystemTime};

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Dtls, DtlsCertificate};
use dtls_psk::{
    Accepted, Answer, CertificateAssociation, CertificateType, CertificateTypes, CertificateUsage,
    ClientCertificate, Config, Connection, CookieJar, Crypto, Datagram, Handshake, Operation,
    PeerCertificate, ServerTrust, Suite, Suites,
};
use interop_tests::dtls::Secure;
use interop_tests::owner::{Owner, key_file};
use interop_tests::process::free_port;
use lwm2m_server::Provider;
use lwm2m_server::credentials::{Binding, DeviceTrust, Fingerprint, KeyMaterial, Subject};
use lwm2m_server::keys::{ServerKey, ServerKeys};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};

use crate::children::Child;
use crate::machine::cpu_of;
use crate::security::{dimpl_established, least, micros, now, random, ratio};
use crate::server;
use crate::table::Table;

/// What every peer here has.
const SUITE: Suite = Suite::EcdheEcdsaAes128Gcm;

/// What the server is called in its certificate.
const SERVER_NAME: &str = "server";

type Client = Connection<2048, Handshake<2048, Provider>, Provider>;
type Server = Connection<2048, Box<Handshake<2048, Provider>>, Provider>;

pub(crate) fn measure(effort: u32) -> Table {
    let title = "DTLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, certificates on both sides";
    let mut table = Table::new(title, &["what", "ours", "beside it", "ratio", "goal"]);
    let sides = Side::both();
    let ours = least(effort, || handshake(&sides, false));
    let checked = least(effort, || handshake(&sides, true));
    let configs = dimpl_config();
    let theirs = least(effort, || drop(dimpl_established(dimpl_sides(&configs))));
    let alone = Arithmetic::measure(effort, &sides);
    let what = "handshake with cookie, both sides in memory, processor time";
    table.row([what.into(), rate(ours), format!("{} dimpl", rate(theirs)), ratio(ours, theirs), "–".into()]);
    let curve = alone.handshake();
    table.row([
        what.into(),
        rate(ours),
        format!("{} P-256 alone", micros(curve)),
        ratio(ours, curve),
        "≤ 1.2 ×".into(),
    ]);
    // One certificate below an anchor, on each side.
    let curve = curve + 2 * alone.verification;
    table.row([
        "the same with the check of both paths".into(),
        rate(checked),
        format!("{} P-256 alone", micros(curve)),
        ratio(checked, curve),
        "≤ 1.2 ×".into(),
    ]);
    for (what, time) in [
        ("P-256 of the server: a share", alone.share),
        ("an agreement", alone.agreement),
        ("a signature, with a key that is ready", alone.signature),
        ("a verification", alone.verification),
    ] {
        table.row([what.into(), micros(time), "–".into(), "–".into(), "–".into()]);
    }
    let count = 100 * effort;
    let child = Child::start(&["signing-server"]);
    let ours = server_time(child.id(), child.address(), count);
    match openssl() {
        Some((openssl, address)) => {
            let theirs = server_time(openssl.id(), address, count);
            table.row([
                "handshake on loopback, processor time of the server's process".into(),
                rate(ours),
                format!("{} openssl s_server", rate(theirs)),
                ratio(ours, theirs),
                "–".into(),
            ]);
        }
        None => table.note("openssl is not installed: no handshake beside it."),
    }
    table.note(
        "P-256 is by AWS-LC in all of them but OpenSSL. Ours on loopback is `lwm2m-server` as a whole, with the look-up of the \
         device's certificate, its workers and its events.",
    );
    table
}

/// A time, and how often it is in a second.
fn rate(time: Duration) -> String {
    format!("{}, {:.0} a second", micros(time), time.as_secs_f64().recip())
}

/// One side, with its key ready to sign.
struct Side {
    secret: [u8; 32],
    key: ServerKey,
    /// Its certificate and that of its authority, whom both trust.
    chain: [Vec<u8>; 2],
    trust: Trust,
}

/// How it judges the path of the other side.
enum Trust {
    Device,
    Server(DeviceTrust),
}

impl Side {
    /// A device and its server, with certificates of one authority.
    fn both() -> [Self; 2] {
        let pair = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let params = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).expect("no names");
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let (mut authority, key) = (params("authority"), pair());
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let anchor = authority.self_signed(&key).expect("a certificate").der().to_vec();
        let issuer = Issuer::new(authority, key);
        let mut trust = DeviceTrust::default();
        trust.add_anchors(&anchor).expect("an authority");
        [("device", Trust::Device), (SERVER_NAME, Trust::Server(trust))].map(|(name, trust)| {
            let pair = pair();
            let own = params(name).signed_by(&pair, &issuer).expect("a certificate").der().to_vec();
            let secret = pair.serialize_der()[36..68].try_into().expect("PKCS #8 of P-256");
            let key = ServerKey::in_memory(&secret).expect("a key of P-256");
            Self { secret, key, chain: [own, anchor.clone()], trust }
        })
    }

    /// Whether the path of the other side leads to an authority that is trusted.
    fn trusts<'c>(&self, chain: impl Iterator<Item = &'c [u8]> + Clone) -> bool {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("it is later than 1970");
        match &self.trust {
            Trust::Device => {
                let trust = ServerTrust {
                    usage: CertificateUsage::TrustAnchorAssertion,
                    association: CertificateAssociation::Full(&self.chain[1]),
                    anchors: &[],
                    name: SERVER_NAME,
                    now: Some(now.as_secs()),
                };
                trust.check::<Provider>(chain).is_ok()
            }
            Trust::Server(trust) => {
                let chain: Vec<_> = chain.map(<[u8]>::to_vec).collect();
                trust.check(u64::try_from(now.as_millis()).unwrap_or(0), &chain).is_ok()
            }
        }
    }
}

/// Both sides with the primitives of the server, with or without the check of the paths.
fn handshake(sides: &[Side; 2], checks_paths: bool) {
    let [device, owner] = sides;
    let types = CertificateTypes { raw_public_key: false, x509: true };
    let suites = Suites::new(&[SUITE]).expect("one suite");
    let config = Config::DEFAULT.with_suites(suites).with_certificate_types(types);
    let certificate = ClientCertificate::X509 { server_name: None };
    let mut client =
        Client::certificate_client(now(), &config, certificate, &mut random, Handshake::default())
            .expect("a suite with signatures");
    let mut jar = CookieJar::<Provider>::with_crypto(now(), &mut random);
    let (mut out, mut reply) = ([0; 2048], [0; 512]);
    let mut server = loop {
        let length = client.poll_transmit(now(), &mut out).expect("a ClientHello");
        match jar.accept(now(), &config, &mut random, b"address", &out[..length], &mut reply) {
            Accepted::Reply(length) => drop(client.handle(now(), &mut Datagram::new(&mut reply[..length]))),
            Accepted::Verified(hello) => {
                let server = Server::server(now(), &config, &hello, &mut random, Box::default());
                break server.expect("randomness that is not all zeros");
            }
            _ => unreachable!("an honest ClientHello"),
        }
    };
    answer(&mut server, owner, checks_paths);
    for _ in 0..2 {
        deliver(&mut server, &mut client, device, checks_paths);
        deliver(&mut client, &mut server, owner, checks_paths);
    }
    assert!(client.is_established() && server.is_established());
}

/// Hands all that one side has to say to the other, which answers what it is asked.
fn deliver<F, T>(
    from: &mut Connection<2048, F, Provider>,
    to: &mut Connection<2048, T, Provider>,
    side: &Side,
    checks_paths: bool,
) where
    F: BorrowMut<Handshake<2048, Provider>>,
    T: BorrowMut<Handshake<2048, Provider>>,
{
    let mut out = [0; 2048];
    while let Some(length) = from.poll_transmit(now(), &mut out) {
        let mut datagram = Datagram::new(&mut out[..length]);
        while to.handle(now(), &mut datagram).is_some() {}
        answer(to, side, checks_paths);
    }
}

fn answer<H>(asking: &mut Connection<2048, H, Provider>, side: &Side, checks_paths: bool)
where
    H: BorrowMut<Handshake<2048, Provider>>,
{
    while let Some(pending) = asking.poll_pending() {
        let id = pending.id;
        let chain: Vec<&[u8]> = side.chain.iter().map(Vec::as_slice).collect();
        let signature;
        let answer = match pending.operation {
            Operation::CheckPeer { certificate: PeerCertificate::X509(chain) } => {
                assert!(!checks_paths || side.trusts(chain), "both know the authority");
                Answer::Trusted
            }
            Operation::Present { certificate_type: CertificateType::X509 } => Answer::Certificates(&chain),
            Operation::Compute(computation) => Answer::Computed(computation.run::<Provider>()),
            Operation::Sign { digest } => {
                signature = side.key.sign(digest).expect("a key of P-256");
                Answer::Signature(&signature)
            }
            _ => Answer::Unknown,
        };
        let _ = asking.provide(now(), id, answer);
    }
}

/// What the server's primitives take on the curve, each by itself.
struct Arithmetic {
    share: Duration,
    agreement: Duration,
    signature: Duration,
    verification: Duration,
}

impl Arithmetic {
    fn measure(effort: u32, [device, server]: &[Side; 2]) -> Self {
        let secret = &device.secret;
        let public = |secret| Provider::p256_public(secret).expect("a key of P-256");
        let (own, other) = (public(secret), public(&server.secret));
        let signature = device.key.sign(&[7; 32]).expect("a key of P-256");
        Self {
            share: least(effort, || {
                black_box(Provider::p256_public(black_box(secret)));
            }),
            agreement: least(effort, || {
                let shared = &mut [0; 32];
                Provider::p256_shared(black_box(secret), &other, shared).expect("two points");
                black_box(shared);
            }),
            signature: least(effort, || {
                black_box(device.key.sign(black_box(&[7; 32])));
            }),
            verification: least(effort, || {
                assert!(Provider::p256_verify(black_box(&own), &[7; 32], &signature));
            }),
        }
    }

    /// Of one handshake: on each side a share, a signature, the check of the other's, and the agreement.
    fn handshake(&self) -> Duration {
        2 * (self.share + self.agreement + self.signature + self.verification)
    }
}

fn dimpl_config() -> Arc<dimpl::Config> {
    let mut provider = dimpl::Config::default().crypto_provider().clone();
    let suites = provider.cipher_suites.iter().copied();
    let suite =
        suites.into_iter().find(|suite| suite.suite() == Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256);
    provider.cipher_suites = Box::leak(Box::new([suite.expect("dimpl has the suite")]));
    Arc::new(dimpl::Config::builder().with_crypto_provider(provider).build().expect("a valid configuration"))
}

fn dimpl_sides(config: &Arc<dimpl::Config>) -> [Dtls; 2] {
    ["device", "server"].map(|name| {
        let read = |name: &str| std::fs::read(key_file(name)).expect("a file of this repository");
        let (certificate, private_key) = (read(&format!("{name}.der")), read(&format!("{name}.key.pem")));
        Dtls::new_12(Arc::clone(config), DtlsCertificate { certificate, private_key }, Clock::now())
    })
}

/// The processor time that `process` takes for each of `count` handshakes with our client.
fn server_time(process: u32, address: SocketAddr, count: u32) -> Duration {
    for _ in 0..10 {
        shake(address);
    }
    let began = cpu_of(process);
    (0..count).for_each(|_| shake(address));
    cpu_of(process).saturating_sub(began) / count
}

/// One handshake from a fresh port, closed again.
fn shake(address: SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.connect(address).expect("loopback");
    let certificate = ClientCertificate::X509 { server_name: None };
    let mut client = Secure::certificate_client(socket, &[SUITE], certificate, Owner::device());
    client.establish().expect("both know each other");
    client.close();
}

fn openssl() -> Option<(Child, SocketAddr)> {
    let port = free_port();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-dtls1_2", "-quiet", "-Verify", "2", "-accept", &format!("127.0.0.1:{port}")]);
    command.args(["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0"]);
    for (argument, name) in [
        ("-cert", "server.crt.pem"),
        ("-key", "server.key.pem"),
        ("-cert_chain", "issuer.crt.pem"),
        ("-CAfile", "issuer.crt.pem"),
    ] {
        command.arg(argument).arg(key_file(name));
    }
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    Some((Child::adopt(child), SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}

/// The child process of the last row: the server, which knows the device by its certificate.
pub(crate) async fn serve() {
    let owner = Owner::server();
    let key = ServerKey::in_memory(&owner.secret).and_then(|key| key.with_certificates(owner.chain));
    let keys = ServerKeys::new(vec![key.expect("a key of P-256 with its certificate")]);
    let device = Owner::device();
    let hash = Fingerprint::of(device.chain.first().expect("it has a certificate"));
    let subject = Subject::Certificate(Binding::Pinned(hash));
    let running = server::start_with(KeyMaterial::Public { subject, key: None }, keys).await;
    println!("{}", server::address(&running));
    std::future::pending::<()>().await;
}
