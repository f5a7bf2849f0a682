//! What a handshake and a record cost: both sides in memory, with cookie, on one core; and of handshakes with signatures how much
//! of it is what the provider's operations take by themselves.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "bench")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dtls_psk::{
    Accepted, Answer, Config, Connection, CookieJar, Datagram, HEADROOM, Handshake, Input, Instant,
    PendingId, Psk, TAILROOM,
};

type Client = Connection<1024>;
type Server = Connection<1024, Box<Handshake<1024>>>;

const KEY: &[u8] = &[0x5a; 16];
const NOW: Instant = Instant::from_millis(0);

/// Answers what a connection asks, if it asks something.
type Answers<'a, const N: usize, H> = &'a dyn Fn(&mut Connection<N, H>) -> bool;

fn with_key<const N: usize, H: std::borrow::BorrowMut<Handshake<N>>>(asking: &mut Connection<N, H>) -> bool {
    let Some(id) = asking.poll_pending().map(|pending| pending.id) else { return false };
    provide(asking, id, Answer::Psk { key: KEY });
    true
}

fn provide<const N: usize, H: std::borrow::BorrowMut<Handshake<N>>>(
    asking: &mut Connection<N, H>,
    id: PendingId,
    answer: Answer<'_>,
) {
    assert!(!matches!(asking.provide(NOW, id, answer), Err(_) | Ok(Some(Input::Closed(_)))));
}

/// Sends everything that `from` has to say to `to`.
fn deliver<const A: usize, const B: usize, F, T>(
    from: &mut Connection<A, F>,
    to: &mut Connection<B, T>,
    answer: Answers<'_, B, T>,
) where
    F: std::borrow::BorrowMut<Handshake<A>>,
    T: std::borrow::BorrowMut<Handshake<B>>,
{
    let mut out = [0; 1200];
    while let Some(length) = from.poll_transmit(NOW, &mut out) {
        let mut datagram = Datagram::new(out.get_mut(..length).unwrap());
        while to.handle(NOW, &mut datagram).is_some() {}
        while answer(to) {}
    }
}

/// Lets a client and a server that takes what `config` says come to a connection.
fn connect(
    jar: &mut CookieJar,
    config: &Config,
    rng: &mut dyn FnMut(&mut [u8]),
    mut client: Client,
    of_client: Answers<'_, 1024, Handshake<1024>>,
    of_server: Answers<'_, 1024, Box<Handshake<1024>>>,
) -> (Client, Server) {
    let (mut hello, mut reply) = ([0; 512], [0; 512]);
    let address = [127, 0, 0, 1, 1, 2];
    loop {
        let length = client.poll_transmit(NOW, &mut hello).unwrap();
        match jar.accept(NOW, config, rng, &address, hello.get(..length).unwrap(), &mut reply) {
            Accepted::Reply(length) => {
                assert!(client.handle(NOW, &mut Datagram::new(reply.get_mut(..length).unwrap())).is_none());
            }
            Accepted::Verified(hello) => {
                let memory = Box::new(Handshake::new());
                let mut server = Server::server(NOW, config, &hello, rng, memory).unwrap();
                while of_server(&mut server) {}
                deliver(&mut server, &mut client, of_client);
                deliver(&mut client, &mut server, of_server);
                deliver(&mut server, &mut client, of_client);
                assert!(client.is_established() && server.is_established());
                return (client, server);
            }
            other => unreachable!("{other:?}"),
        }
    }
}

/// Randomness that is never the same.
fn counting(counter: &mut u64) -> impl FnMut(&mut [u8]) + '_ {
    |bytes: &mut [u8]| {
        *counter += 1;
        bytes.iter_mut().zip(counter.to_le_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
    }
}

fn handshake(jar: &mut CookieJar, counter: &mut u64) -> (Client, Server) {
    let mut rng = counting(counter);
    let psk = Psk { identity: b"urn:dev:os:0001", key: KEY };
    let client = Client::client(NOW, &Config::DEFAULT, psk, &mut rng, Handshake::new()).unwrap();
    connect(jar, &Config::DEFAULT, &mut rng, client, &with_key, &with_key)
}

fn benches(criterion: &mut Criterion) {
    let mut counter = 0;
    let mut jar = CookieJar::new(NOW, &mut |bytes| bytes.fill(1));
    criterion.bench_function("PSK handshake with cookie, both sides", |bencher| {
        bencher.iter(|| handshake(&mut jar, &mut counter));
    });

    let (mut client, mut server) = handshake(&mut jar, &mut counter);
    let mut buffer = [0; HEADROOM + 64 + TAILROOM];
    criterion.bench_function("64-byte record, seal and open", |bencher| {
        bencher.iter(|| {
            let record = client.seal(&mut buffer, HEADROOM..HEADROOM + 64).unwrap();
            let mut datagram = Datagram::new(buffer.get_mut(record).unwrap());
            let Some(Input::Application(payload)) = server.handle(NOW, &mut datagram) else { unreachable!() };
            black_box(payload);
        });
    });
    criterion.bench_function("cookie exchange, server's side", |bencher| {
        let hello: Vec<u8> = {
            let psk = Psk { identity: b"urn:dev:os:0001", key: KEY };
            let mut rng = |bytes: &mut [u8]| bytes.fill(9);
            let mut client = Client::client(NOW, &Config::DEFAULT, psk, &mut rng, Handshake::new()).unwrap();
            let mut out = [0; 512];
            let length = client.poll_transmit(NOW, &mut out).unwrap();
            out.iter().take(length).copied().collect()
        };
        let mut rng = |bytes: &mut [u8]| bytes.fill(9);
        bencher.iter_batched_ref(
            || [0; 64],
            |out| {
                matches!(
                    jar.accept(NOW, &Config::DEFAULT, &mut rng, &[1; 6], &hello, out),
                    Accepted::Reply(44)
                )
            },
            BatchSize::SmallInput,
        );
    });
}

/// Both sides prove themselves by signatures of P-256.
#[cfg(feature = "x509")]
mod signed {
    use std::cell::Cell;
    use std::time::{Duration, Instant as Clock};

    use super::*;
    use dtls_psk::{
        CertificateType, CertificateTypes, ClientCertificate, Crypto as _, Operation, POINT, RustCrypto,
        Suite, Suites, raw_public_key,
    };

    const DEVICE: &[u8] = include_bytes!("../tests/engine/certificates/device.der");
    const SERVER: &[u8] = include_bytes!("../tests/engine/certificates/server.der");
    const CLIENT_SECRET: [u8; 32] = [0xc1; 32];
    const SERVER_SECRET: [u8; 32] = [0x51; 32];

    /// An owner with a key in memory that trusts everybody: how long a path takes to validate is another question.
    fn owner<const N: usize, H: std::borrow::BorrowMut<Handshake<N>>>(
        asking: &mut Connection<N, H>,
        secret: &[u8; 32],
        public_key: &[u8],
        certificate: &[u8],
    ) -> bool {
        let Some(pending) = asking.poll_pending() else { return false };
        let id = pending.id;
        match pending.operation {
            Operation::CheckPeer { .. } => provide(asking, id, Answer::Trusted),
            Operation::Compute(computation) => {
                let computed = computation.run::<RustCrypto>();
                provide(asking, id, Answer::Computed(computed));
            }
            Operation::Present { certificate_type } => {
                let own = if certificate_type == CertificateType::X509 { certificate } else { public_key };
                provide(asking, id, Answer::Certificates(&[own]));
            }
            Operation::Sign { digest } => {
                let signature = RustCrypto::p256_sign(secret, digest).unwrap();
                provide(asking, id, Answer::Signature(&signature));
            }
            other => unreachable!("{other:?}"),
        }
        true
    }

    /// The operations on the curve of one handshake: each side makes a share and a signature, verifies the other's, and agrees.
    fn operations(sides: &[([u8; 32], [u8; POINT]); 2]) {
        for ((secret, public), (_, other)) in sides.iter().zip(sides.iter().rev()) {
            black_box(RustCrypto::p256_public(black_box(secret)));
            let signature = RustCrypto::p256_sign(black_box(secret), &[7; 32]).unwrap();
            assert!(RustCrypto::p256_verify(black_box(public), &[7; 32], &signature));
            RustCrypto::p256_shared(secret, black_box(other), black_box(&mut [0; 32])).unwrap();
        }
    }

    /// Measures `run`; the shortest time for one of them, which tells most of it where something else runs besides, and `None` if
    /// that was not asked for.
    fn measure(criterion: &mut Criterion, name: &str, mut run: impl FnMut()) -> Option<Duration> {
        let shortest = Cell::new(None);
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let times = (0..count).map(|_| {
                    let began = Clock::now();
                    run();
                    began.elapsed()
                });
                times.inspect(|time| shortest.set(Some(shortest.get().unwrap_or(*time).min(*time)))).sum()
            });
        });
        shortest.get()
    }

    pub(super) fn benches(criterion: &mut Criterion) {
        let types = CertificateTypes { raw_public_key: true, x509: true };
        let suites = Suites::new(&[Suite::EcdheEcdsaAes128Ccm8]).unwrap();
        let config = Config::DEFAULT.with_suites(suites).with_certificate_types(types);
        let sides =
            [CLIENT_SECRET, SERVER_SECRET].map(|secret| (secret, RustCrypto::p256_public(&secret).unwrap()));
        let [of_client, of_server] = sides.map(|(_, public)| raw_public_key(&public));
        let (mut jar, mut counter) = (CookieJar::new(NOW, &mut |bytes| bytes.fill(1)), 0);
        let alone =
            measure(criterion, "P-256 of a handshake with signatures, by itself", || operations(&sides));
        for (name, certificate) in [
            ("RPK handshake with cookie, both sides", ClientCertificate::RawPublicKey),
            ("X.509 handshake with cookie, both sides", ClientCertificate::X509 { server_name: None }),
        ] {
            let whole = measure(criterion, name, || {
                let mut rng = counting(&mut counter);
                let memory = Handshake::new();
                let client = Client::certificate_client(NOW, &config, certificate, &mut rng, memory).unwrap();
                let of_client = |asking: &mut Client| owner(asking, &CLIENT_SECRET, &of_client, DEVICE);
                let of_server = |asking: &mut Server| owner(asking, &SERVER_SECRET, &of_server, SERVER);
                black_box(connect(&mut jar, &config, &mut rng, client, &of_client, &of_server));
            });
            if let (Some(whole), Some(alone)) = (whole, alone) {
                println!("{name}: {:.2} times its P-256", whole.as_secs_f64() / alone.as_secs_f64());
            }
        }
    }
}

#[cfg(feature = "x509")]
criterion_group!(handshakes, benches, signed::benches);
#[cfg(not(feature = "x509"))]
criterion_group!(handshakes, benches);
criterion_main!(handshakes);
