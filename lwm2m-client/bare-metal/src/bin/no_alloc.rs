//! The same device on the developer's machine, without std and without an allocator: it registers with a scripted server,
//! is read, observed and de-registered, once without security and once over DTLS. Exit code 0 when all of it happened.
#![no_std]
#![no_main]

use dtls_psk::{
    Accepted, Answer, Connection, CookieJar, Datagram, HEADROOM, Handshake, Input, Operation, TAILROOM,
};
use lwm2m_bare_metal::application::{Application, KEY, MTU};
use lwm2m_client::{Credential, Instant, Notice};
use lwm2m_coap::udp::{self, Kind};
use lwm2m_coap::{Code, OptionNumber};

#[cfg(not(target_os = "none"))]
#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: of the C library, without preconditions.
    #[cfg(not(target_os = "none"))]
    unsafe {
        abort()
    }
    #[cfg(target_os = "none")]
    loop {}
}

/// What the C runtime calls.
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    if scenario(Line::Plain, "coap://192.0.2.1", None) != Some(()) {
        return 1;
    }
    let line =
        Line::Secured { jar: CookieJar::new(dtls_psk::Instant::from_millis(0), &mut random), server: None };
    if scenario(line, "coaps://192.0.2.1", Some(KEY.into())) != Some(()) {
        return 2;
    }
    for (number, uri, credential) in [
        #[cfg(feature = "rpk")]
        (3, "coaps://192.0.2.1", lwm2m_bare_metal::application::RAW_PUBLIC_KEYS.into()),
        #[cfg(feature = "x509")]
        (4, "coaps://lwm2m.example", lwm2m_bare_metal::application::CERTIFICATE.into()),
    ] as [(i32, &str, Credential<'_>); SIGNED]
    {
        let jar = CookieJar::new(dtls_psk::Instant::from_millis(0), &mut random);
        if scenario(Line::Secured { jar, server: None }, uri, Some(credential)) != Some(()) {
            return number;
        }
    }
    0
}

/// How many scenarios there are with signatures.
const SIGNED: usize = cfg!(feature = "rpk") as usize + cfg!(feature = "x509") as usize;

/// What the server does, in this order; each step ends with the device's answer.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Register,
    Read,
    Observe,
    Notification,
    Deregister,
    Done,
}

type Bytes = heapless::Vec<u8, MTU>;

fn scenario(mut line: Line, uri: &str, credential: Option<Credential<'_>>) -> Option<()> {
    let mut application = Application::new(uri, credential)?;
    let mut buffer = [0; MTU];
    let mut step = Step::Register;
    for time in 0..2000 {
        let now = Instant::from_millis(time * 100);
        let mut to_server = heapless::Vec::<Bytes, 8>::new();
        application.handle_timeout(now, &mut random);
        application.drain(
            now,
            &mut buffer,
            &mut random,
            &mut |_, datagram| drop(to_server.push(Bytes::from_slice(datagram).unwrap_or_default())),
            &mut |_: Notice| {},
        );
        for mut datagram in to_server {
            let mut to_device = heapless::Vec::<Bytes, 8>::new();
            if let Some(message) = line.receive(&mut datagram, &mut to_device) {
                let (answer, next) = serve(message, step)?;
                step = next;
                line.send(&answer, &mut to_device);
                if let Some(request) = ask(step) {
                    line.send(&request, &mut to_device);
                }
            }
            for mut datagram in to_device {
                application.handle(now, 0, &mut datagram, &mut random);
            }
        }
        match step {
            Step::Notification => application.discharge(),
            Step::Deregister => application.client.deregister(),
            Step::Done if application.client.is_stopped() => return Some(()),
            _ => {}
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
        (Code::CONTENT, Step::Read) => (message.payload == b"95").then_some(Step::Observe)?,
        (Code::CONTENT, Step::Observe) => message.options.observe().map(|_| Step::Notification)?,
        (Code::CONTENT, Step::Notification) => {
            if header.kind == Kind::Confirmable {
                put(&[0x60, 0, high, low])?;
            }
            Step::Deregister
        }
        (Code::DELETE, Step::Deregister) => {
            message.options.uri_path().eq([&b"rd"[..], b"7"]).then_some(())?;
            put(&head(Code::DELETED))?;
            put(message.token.bytes())?;
            Step::Done
        }
        (Code::EMPTY, _) => step,
        // Again, before it saw what was sent meanwhile.
        (Code::CONTENT, Step::Deregister) => step,
        _ => return None,
    };
    Some((answer, next))
}

/// The request that begins a step: the battery level, as text.
fn ask(step: Step) -> Option<Bytes> {
    let mut request = Bytes::new();
    let (id, observe) = match step {
        Step::Read => (1, &[][..]),
        Step::Observe => (2, &[0x60][..]),
        _ => return None,
    };
    request.extend_from_slice(&[0x42, Code::GET.as_u8(), 0, id, 0xa0, id]).ok()?;
    request.extend_from_slice(observe).ok()?;
    let path =
        OptionNumber::URI_PATH.0 as u8 - if observe.is_empty() { 0 } else { OptionNumber::OBSERVE.0 as u8 };
    request.extend_from_slice(&[path << 4 | 1, b'3', 0x01, b'0', 0x01, b'9', 0x60]).ok()?;
    Some(request)
}

/// What lies between device and server.
enum Line {
    Plain,
    Secured { jar: CookieJar, server: Option<Connection<384>> },
}

impl Line {
    /// Takes a datagram of the device: the message in it, and what the server's side of the handshake sends back.
    fn receive<'d>(
        &mut self,
        datagram: &'d mut Bytes,
        out: &mut heapless::Vec<Bytes, 8>,
    ) -> Option<&'d [u8]> {
        let now = dtls_psk::Instant::from_millis(0);
        let Self::Secured { jar, server } = self else { return Some(datagram) };
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
                while answer(connection, now)?.is_some() {}
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
                    while answer(connection, now)?.is_some() {}
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
    fn send(&mut self, message: &Bytes, out: &mut heapless::Vec<Bytes, 8>) {
        if message.is_empty() {
            return;
        }
        let datagram = match self {
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
fn answer(connection: &mut Connection<384>, now: dtls_psk::Instant) -> Option<Option<()>> {
    #[cfg(feature = "rpk")]
    use dtls_psk::{Crypto as _, RustCrypto};
    #[cfg(feature = "rpk")]
    use lwm2m_bare_metal::application::{PRIVATE_KEYS, PUBLIC_KEYS};
    let Some(pending) = connection.poll_pending() else { return Some(None) };
    let id = pending.id;
    #[cfg(feature = "rpk")]
    let signature;
    let answer = match pending.operation {
        Operation::LookUpPsk { .. } => Answer::Psk { key: KEY.key },
        #[cfg(feature = "x509")]
        Operation::Present { certificate_type: dtls_psk::CertificateType::X509 } => {
            Answer::Certificates(&[&lwm2m_bare_metal::application::CERTIFICATES[1]])
        }
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
        Operation::Prove(proof) => Answer::Proven(proof.run::<RustCrypto>()),
        _ => return None,
    };
    connection.provide(now, id, answer).ok()?;
    Some(Some(()))
}

/// Randomness that is the same in every run.
fn random(bytes: &mut [u8]) {
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
