//! The same device and a scripted server in one program, without std and without an allocator: it registers, is read, observed
//! and de-registered, in the clear and over DTLS with each kind of credential.

use dtls_psk::{
    Accepted, Answer, Connection, CookieJar, Datagram, HEADROOM, Handshake, Input, Operation, TAILROOM,
};
use lwm2m_client::{Credential, Instant, Notice};
use lwm2m_coap::udp::{self, Kind};
use lwm2m_coap::{Code, OptionNumber};

use crate::application::{Application, KEY, MTU};

/// Where the device has its server, and by what it knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// In the clear.
    NoSec,
    /// OSCORE.
    #[cfg(feature = "oscore")]
    Oscore,
    /// A pre-shared key.
    Psk,
    /// Raw public keys.
    #[cfg(feature = "rpk")]
    RawPublicKey,
    /// A certificate that is known.
    #[cfg(feature = "x509")]
    Known,
    /// A certificate below an authority that is known, with another one between.
    #[cfg(feature = "x509-path")]
    Path,
}

impl Security {
    /// All that were compiled in.
    pub const ALL: &[Self] = &[
        Self::NoSec,
        #[cfg(feature = "oscore")]
        Self::Oscore,
        Self::Psk,
        #[cfg(feature = "rpk")]
        Self::RawPublicKey,
        #[cfg(feature = "x509")]
        Self::Known,
        #[cfg(feature = "x509-path")]
        Self::Path,
    ];

    fn account(self) -> (&'static str, Option<Credential<'static>>) {
        match self {
            Self::NoSec => ("coap://192.0.2.1", None),
            #[cfg(feature = "oscore")]
            Self::Oscore => ("coap://192.0.2.1", None),
            Self::Psk => ("coaps://192.0.2.1", Some(KEY.into())),
            #[cfg(feature = "rpk")]
            Self::RawPublicKey => ("coaps://192.0.2.1", Some(crate::application::RAW_PUBLIC_KEYS.into())),
            #[cfg(feature = "x509")]
            Self::Known => ("coaps://lwm2m.example", Some(crate::application::CERTIFICATE.into())),
            #[cfg(feature = "x509-path")]
            Self::Path => ("coaps://lwm2m.example", Some(crate::application::BELOW_AN_AUTHORITY.into())),
        }
    }
}

/// What the server does, in this order; each step ends with the device's answer.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Register,
    Read,
    Observe,
    Notification,
    Reboot,
    Deregister,
    Done,
}

/// A datagram.
pub type Bytes = heapless::Vec<u8, MTU>;

/// What the server sends back.
pub type Answers = heapless::Vec<Bytes, 8>;

/// The server.
pub struct Peer {
    line: Line,
    step: Step,
}

impl Peer {
    /// Waits for the device.
    #[must_use]
    pub fn new(security: Security) -> Option<Self> {
        let line = match security {
            Security::NoSec => Line::Plain,
            #[cfg(feature = "oscore")]
            Security::Oscore => Line::Protected(crate::protected::Protected::new()?),
            _ => {
                let jar = CookieJar::new(dtls_psk::Instant::from_millis(0), &mut random);
                Line::Secured { security, jar, server: None }
            }
        };
        Some(Self { line, step: Step::Register })
    }

    /// Takes a datagram of the device; `None` when the device did something wrong.
    pub fn receive(&mut self, datagram: &mut Bytes) -> Option<Answers> {
        let mut answers = Answers::new();
        if let Some(message) = self.line.receive(datagram, &mut answers) {
            let (answer, next) = serve(message, self.step)?;
            self.line.send(&answer, &mut answers);
            if next != self.step
                && let Some(request) = ask(next)
            {
                self.line.send(&request, &mut answers);
            }
            self.step = next;
        }
        Some(answers)
    }

    /// Whether all of it happened.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }
}

/// Runs all of it in this program; `None` when something did not happen.
pub fn run(security: Security) -> Option<()> {
    let (uri, credential) = security.account();
    #[cfg(feature = "oscore")]
    let context = (security == Security::Oscore).then_some(crate::application::CONTEXT);
    let mut application = Application::new(
        uri,
        credential,
        #[cfg(feature = "oscore")]
        context,
    )?;
    let mut peer = Peer::new(security)?;
    let mut buffer = [0; MTU];
    for time in 0..2000 {
        let now = Instant::from_millis(time * 100);
        let mut to_server = Answers::new();
        application.handle_timeout(now, &mut random);
        application.drain(
            now,
            &mut buffer,
            &mut random,
            &mut |_, datagram| drop(to_server.push(Bytes::from_slice(datagram).unwrap_or_default())),
            &mut |_: Notice| {},
        );
        for mut datagram in to_server {
            for mut answer in peer.receive(&mut datagram)? {
                application.handle(now, 0, &mut answer, &mut random);
            }
        }
        if peer.is_done() && application.client.is_stopped() {
            return Some(());
        }
    }
    None
}

/// The server's answer to a message of the device, and what it does next. Nothing when the device did something wrong.
fn serve(message: &[u8], step: Step) -> Option<(Bytes, Step)> {
    let (header, message) = udp::parse(message).ok()?;
    let [high, low] = header.id.0.to_be_bytes();
    let mut answer = Bytes::new();
    let mut put = |bytes: &[u8]| answer.extend_from_slice(bytes).ok();
    let head = |code: Code| [0x60 | message.token.length(), code.as_u8(), high, low];
    let next = match (message.code, step) {
        (Code::POST, Step::Register) => {
            put(&head(Code::CREATED))?;
            put(message.token.bytes())?;
            put(&[0x82, b'r', b'd', 0x01, b'7'])?;
            Step::Read
        }
        (Code::CONTENT, Step::Read) => is_level(message.payload).then_some(Step::Observe)?,
        (Code::CONTENT, Step::Observe) => message.options.observe().map(|_| Step::Notification)?,
        (Code::CONTENT, Step::Notification) => {
            if header.kind == Kind::Confirmable {
                put(&[0x60, 0, high, low])?;
            }
            Step::Reboot
        }
        (Code::CHANGED, Step::Reboot) => Step::Deregister,
        (Code::DELETE, Step::Deregister) => {
            message.options.uri_path().eq([&b"rd"[..], b"7"]).then_some(())?;
            put(&head(Code::DELETED))?;
            put(message.token.bytes())?;
            Step::Done
        }
        (Code::EMPTY, _) => step,
        // Again, before it saw what was sent meanwhile.
        (Code::CONTENT, Step::Reboot | Step::Deregister) => step,
        _ => return None,
    };
    Some((answer, next))
}

fn is_level(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// The request that begins a step: of the battery level, as text, or that the device begins anew.
fn ask(step: Step) -> Option<Bytes> {
    let (id, code, observe, resource) = match step {
        Step::Read => (1, Code::GET, None, b'9'),
        Step::Observe => (2, Code::GET, Some(0x60), b'9'),
        Step::Reboot => (3, Code::POST, None, b'4'),
        _ => return None,
    };
    let path = OptionNumber::URI_PATH.0 as u8 - observe.map_or(0, |_| OptionNumber::OBSERVE.0 as u8);
    let mut request = Bytes::from_slice(&[0x42, code.as_u8(), 0, id, 0xa0, id]).ok()?;
    request.extend(observe);
    request.extend_from_slice(&[path << 4 | 1, b'3', 0x01, b'0', 0x01, resource]).ok()?;
    if code == Code::GET {
        request.push(0x60).ok()?;
    }
    Some(request)
}

/// What lies between device and server.
enum Line {
    Plain,
    #[cfg(feature = "oscore")]
    Protected(crate::protected::Protected),
    Secured {
        security: Security,
        jar: CookieJar,
        server: Option<Connection<1024>>,
    },
}

impl Line {
    /// Takes a datagram of the device: the message in it, and what the server's side of the handshake sends back.
    fn receive<'d>(&'d mut self, datagram: &'d mut Bytes, out: &mut Answers) -> Option<&'d [u8]> {
        let now = dtls_psk::Instant::from_millis(0);
        let (security, jar, server) = match self {
            Self::Plain => return Some(datagram),
            #[cfg(feature = "oscore")]
            Self::Protected(protected) => return protected.receive(datagram, out),
            Self::Secured { security, jar, server } => (security, jar, server),
        };
        let mut space = [0; MTU];
        let mut message = None;
        let connection = match server {
            Some(connection) => {
                let mut datagram = Datagram::new(datagram);
                while let Some(input) = connection.handle(now, &mut datagram) {
                    if let Input::Application(bytes) = input {
                        message = Some(&*bytes);
                    }
                }
                while answer(*security, connection, now)?.is_some() {}
                connection
            }
            None => match jar.accept(now, &config(), &mut random, b"device", datagram, &mut space) {
                Accepted::Reply(length) => {
                    out.push(Bytes::from_slice(space.get(..length)?).ok()?).ok()?;
                    return None;
                }
                Accepted::Verified(hello) => {
                    let connection = server.insert(
                        Connection::server(now, &config(), &hello, &mut random, Handshake::new()).ok()?,
                    );
                    while answer(*security, connection, now)?.is_some() {}
                    connection
                }
                _ => return None,
            },
        };
        while let Some(length) = connection.poll_transmit(now, &mut space) {
            out.push(Bytes::from_slice(space.get(..length)?).ok()?).ok()?;
        }
        message
    }

    /// Sends a message to the device; an empty one is none.
    fn send(&mut self, message: &Bytes, out: &mut Answers) {
        if message.is_empty() {
            return;
        }
        let datagram = match self {
            #[cfg(feature = "oscore")]
            Self::Protected(protected) => match protected.send(message) {
                Some(datagram) => datagram,
                None => return,
            },
            Self::Secured { server: Some(server), .. } => {
                let mut space = [0; MTU + HEADROOM + TAILROOM];
                let payload = HEADROOM..HEADROOM + message.len();
                if let Some(place) = space.get_mut(payload.clone()) {
                    place.copy_from_slice(message);
                }
                let range = server.seal(&mut space, payload).unwrap_or_default();
                Bytes::from_slice(space.get(range).unwrap_or_default()).unwrap_or_default()
            }
            _ => message.clone(),
        };
        drop(out.push(datagram));
    }
}

/// How the server does handshakes.
fn config() -> dtls_psk::Config {
    #[cfg(feature = "connection-id")]
    if let Some(id) = dtls_psk::ConnectionId::new(b"server") {
        return certified().with_connection_id(id);
    }
    certified()
}

fn certified() -> dtls_psk::Config {
    #[cfg(feature = "rpk")]
    return dtls_psk::Config::DEFAULT.with_suites(dtls_psk::Suites::ALL).with_certificate_types(
        dtls_psk::CertificateTypes {
            #[cfg(feature = "x509")]
            x509: true,
            ..dtls_psk::CertificateTypes::RAW_PUBLIC_KEY
        },
    );
    #[cfg(not(feature = "rpk"))]
    dtls_psk::Config::DEFAULT
}

/// Answers what the server's connection asks, if it asks anything; `None` when the device did something wrong.
fn answer(
    security: Security,
    connection: &mut Connection<1024>,
    now: dtls_psk::Instant,
) -> Option<Option<()>> {
    #[cfg(feature = "rpk")]
    use crate::application::{PRIVATE_KEYS, PUBLIC_KEYS};
    #[cfg(feature = "rpk")]
    use dtls_psk::{Crypto as _, RustCrypto};
    let Some(pending) = connection.poll_pending() else { return Some(None) };
    let id = pending.id;
    #[cfg(feature = "rpk")]
    let signature;
    let answer = match pending.operation {
        Operation::LookUpPsk { .. } => Answer::Psk { key: KEY.key },
        #[cfg(feature = "x509")]
        Operation::Present { certificate_type: dtls_psk::CertificateType::X509 } => match security {
            #[cfg(feature = "x509-path")]
            Security::Path => Answer::Certificates(&crate::application::CHAIN),
            _ => Answer::Certificates(&[&crate::application::CERTIFICATES[1]]),
        },
        #[cfg(feature = "rpk")]
        Operation::Present { .. } => Answer::Certificates(&[&PUBLIC_KEYS[1]]),
        #[cfg(feature = "rpk")]
        Operation::Sign { digest } => {
            signature = RustCrypto::p256_sign(&PRIVATE_KEYS[1], digest)?;
            Answer::Signature(&signature)
        }
        #[cfg(feature = "rpk")]
        Operation::CheckPeer { certificate } => {
            (certificate.public_key() == Some(&PUBLIC_KEYS[0])).then_some(Answer::Trusted)?
        }
        #[cfg(feature = "rpk")]
        Operation::Compute(computation) => Answer::Computed(computation.run::<RustCrypto>()),
        _ => return None,
    };
    connection.provide(now, id, answer).ok()?;
    Some(Some(()))
}

/// Randomness that is the same in every run.
pub(crate) fn random(bytes: &mut [u8]) {
    static STATE: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(1);
    for byte in bytes {
        let state = STATE
            .load(core::sync::atomic::Ordering::Relaxed)
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        STATE.store(state, core::sync::atomic::Ordering::Relaxed);
        *byte = (state >> 24) as u8;
    }
}
