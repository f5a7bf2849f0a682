//! What a handshake and a record cost: both sides in memory, with cookie, on one core.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "bench")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dtls_psk::{
    Accepted, Answer, Config, Connection, CookieJar, Datagram, HEADROOM, Handshake, Input, Instant, Psk,
    TAILROOM,
};

type Client = Connection<512>;
type Server = Connection<1024, Box<Handshake<1024>>>;

const KEY: &[u8] = &[0x5a; 16];
const NOW: Instant = Instant::from_millis(0);

/// Sends everything that `from` has to say to `to`.
fn deliver<const A: usize, const B: usize, F, T>(from: &mut Connection<A, F>, to: &mut Connection<B, T>)
where
    F: std::borrow::BorrowMut<Handshake<A>>,
    T: std::borrow::BorrowMut<Handshake<B>>,
{
    let mut out = [0; 512];
    while let Some(length) = from.poll_transmit(NOW, &mut out) {
        let mut datagram = Datagram::new(out.get_mut(..length).unwrap());
        while to.handle(NOW, &mut datagram).is_some() {}
        if let Some(id) = to.poll_pending().map(|pending| pending.id) {
            to.provide(NOW, id, Answer::Psk { key: KEY }).unwrap();
        }
    }
}

fn handshake(jar: &mut CookieJar, counter: &mut u64) -> (Client, Server) {
    let mut rng = |bytes: &mut [u8]| {
        *counter += 1;
        bytes.iter_mut().zip(counter.to_le_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
    };
    let psk = Psk { identity: b"urn:dev:os:0001", key: KEY };
    let mut client = Client::client(NOW, &Config::DEFAULT, psk, &mut rng, Handshake::new()).unwrap();
    let (mut hello, mut reply) = ([0; 512], [0; 512]);
    let address = [127, 0, 0, 1, 1, 2];
    loop {
        let length = client.poll_transmit(NOW, &mut hello).unwrap();
        match jar.accept(NOW, &Config::DEFAULT, &mut rng, &address, hello.get(..length).unwrap(), &mut reply)
        {
            Accepted::Reply(length) => {
                assert!(client.handle(NOW, &mut Datagram::new(reply.get_mut(..length).unwrap())).is_none());
            }
            Accepted::Verified(hello) => {
                let memory = Box::new(Handshake::new());
                let mut server = Server::server(NOW, &Config::DEFAULT, &hello, &mut rng, memory).unwrap();
                deliver(&mut server, &mut client);
                deliver(&mut client, &mut server);
                deliver(&mut server, &mut client);
                assert!(client.is_established() && server.is_established());
                return (client, server);
            }
            other => unreachable!("{other:?}"),
        }
    }
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

criterion_group!(handshakes, benches);
criterion_main!(handshakes);
