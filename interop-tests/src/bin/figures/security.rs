//! DTLS: handshakes and records in memory beside `dimpl`, and on loopback beside OpenSSL.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Dtls, Output, PskResolver};
use dtls_psk::{
    Accepted, Answer, Config, Connection, CookieJar, Datagram, HEADROOM, Handshake, Input, Instant, Psk,
    TAILROOM,
};
use interop_tests::process::free_port;

use crate::children::Child;
use crate::machine::{cpu_here, cpu_of};
use crate::table::Table;

const IDENTITY: &[u8] = b"urn:imei:123456";
const KEY: &[u8; 16] = b"0123456789abcdef";

type Client = Connection<384>;
type Server = Connection<384, Box<Handshake<384>>>;

pub(crate) fn measure(effort: u32) -> Table {
    let mut table =
        Table::new("DTLS 1.2, TLS_PSK_WITH_AES_128_CCM_8", &["what", "ours", "beside it", "ratio", "goal"]);
    let ours = least(effort, || {
        let _ = pair();
    });
    let configs = dimpl_configs();
    let theirs = least(effort, || {
        let _ = dimpl_pair(&configs);
    });
    table.row([
        "handshake with cookie, both sides in memory, processor time".into(),
        micros(ours),
        format!("{} dimpl", micros(theirs)),
        ratio(ours, theirs),
        "≤ 12 µs".into(),
    ]);

    let ours = record(effort, 64);
    let (mut client, mut server) = dimpl_pair(&configs);
    let mut out = vec![0; 2048];
    let theirs = least(effort, || {
        client.send_application_data(&[0; 64]).expect("the connection is established");
        while let Output::Packet(packet) = client.poll_output(&mut out) {
            server.handle_packet(packet).expect("an honest record");
        }
        let mut out = [0; 2048];
        assert!(matches!(server.poll_output(&mut out), Output::ApplicationData(_)));
    });
    table.row([
        "record of 64 B, seal and open, processor time".into(),
        nanos(ours),
        format!("{} dimpl", nanos(theirs)),
        ratio(ours, theirs),
        "≤ 300 ns".into(),
    ]);

    let count = 100 * effort;
    let child = Child::start(&["dtls-server"]);
    let ours = server_time(child.id(), child.address(), count);
    match openssl() {
        Some((server, address)) => {
            let theirs = server_time(server.id(), address, count);
            table.row([
                "handshake on loopback, processor time of the server's process".into(),
                micros(ours),
                format!("{} openssl s_server", micros(theirs)),
                ratio(ours, theirs),
                "–".into(),
            ]);
            table.note(
                "The last row is the whole server process, system calls included. `openssl s_server` does more than \
                 OpenSSL's library: it also sets each connection up, prints and waits by `select`.",
            );
        }
        None => table.note("openssl is not installed: no handshake beside it."),
    }
    table
}

/// The processor time to seal and open a record of `size` bytes.
pub(crate) fn record(effort: u32, size: usize) -> Duration {
    let (mut client, mut server) = pair();
    let mut buffer = vec![0; HEADROOM + size + TAILROOM];
    least(effort, || {
        let range =
            client.seal(&mut buffer, HEADROOM..HEADROOM + size).expect("the connection is established");
        let opened = server.handle(now(), &mut Datagram::new(&mut buffer[range]));
        assert!(matches!(opened, Some(Input::Application(_))));
    })
}

/// The least processor time of one call, over rounds that add up to half a second for each step of effort.
pub(crate) fn least(effort: u32, mut run: impl FnMut()) -> Duration {
    let mut repeat = 1_u32;
    loop {
        let began = Clock::now();
        (0..repeat).for_each(|_| run());
        if began.elapsed() > Duration::from_millis(100) {
            break;
        }
        repeat *= 2;
    }
    let rounds = (0..5 * effort).map(|_| {
        let began = cpu_here();
        (0..repeat).for_each(|_| run());
        cpu_here().saturating_sub(began) / repeat
    });
    rounds.min().unwrap_or_default()
}

pub(crate) fn now() -> Instant {
    Instant::from_millis(0)
}

pub(crate) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has randomness");
}

/// Both sides, established, with all datagrams between them; a server as it stands in the field, cookie included.
fn pair() -> (Client, Server) {
    let psk = Psk { identity: IDENTITY, key: KEY };
    let mut client =
        Client::client(now(), &Config::DEFAULT, psk, &mut random, Handshake::new()).expect("a possible key");
    let mut jar = CookieJar::new(now(), &mut random);
    let mut server = None;
    let mut out = [0; 512];
    let mut reply = [0; 512];
    for _ in 0..8 {
        while let Some(length) = client.poll_transmit(now(), &mut out) {
            match &mut server {
                None => match jar.accept(
                    now(),
                    &Config::DEFAULT,
                    &mut random,
                    b"address",
                    &out[..length],
                    &mut reply,
                ) {
                    Accepted::Reply(length) => feed(&mut client, &mut reply[..length]),
                    Accepted::Verified(hello) => {
                        let memory = Box::new(Handshake::new());
                        let accepted = Server::server(now(), &Config::DEFAULT, &hello, &mut random, memory);
                        server = Some(accepted.expect("randomness that is not all zeros"));
                    }
                    _ => unreachable!("an honest ClientHello"),
                },
                Some(server) => feed_server(server, &mut out[..length]),
            }
        }
        if let Some(server) = &mut server {
            while let Some(length) = server.poll_transmit(now(), &mut reply) {
                feed(&mut client, &mut reply[..length]);
            }
        }
        if client.is_established()
            && let Some(server) = server.take_if(|server| server.is_established())
        {
            return (client, server);
        }
    }
    unreachable!("an honest handshake ends");
}

fn feed(client: &mut Client, bytes: &mut [u8]) {
    let mut datagram = Datagram::new(bytes);
    while client.handle(now(), &mut datagram).is_some() {}
}

fn feed_server(server: &mut Server, bytes: &mut [u8]) {
    let mut datagram = Datagram::new(bytes);
    while server.handle(now(), &mut datagram).is_some() {}
    if let Some(pending) = server.poll_pending() {
        let id = pending.id;
        let _ = server.provide(now(), id, Answer::Psk { key: KEY });
    }
}

struct Keys;

impl PskResolver for Keys {
    fn resolve(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(KEY.to_vec())
    }
}

fn dimpl_configs() -> [Arc<dimpl::Config>; 2] {
    let mut provider = dimpl::Config::default().crypto_provider().clone();
    let suite = provider.cipher_suites.iter().copied();
    let suite = suite.into_iter().find(|suite| suite.suite() == Dtls12CipherSuite::PSK_AES128_CCM_8);
    provider.cipher_suites = Box::leak(Box::new([suite.expect("dimpl has the suite")]));
    let build = |builder: dimpl::ConfigBuilder| Arc::new(builder.build().expect("a valid configuration"));
    let builder = || dimpl::Config::builder().with_crypto_provider(provider.clone());
    [
        build(builder().with_psk_client(IDENTITY.to_vec(), Arc::new(Keys))),
        build(builder().with_psk_server(None, Arc::new(Keys))),
    ]
}

fn dimpl_pair([client, server]: &[Arc<dimpl::Config>; 2]) -> (Dtls, Dtls) {
    dimpl_established([client, server].map(|config| Dtls::new_12_psk(Arc::clone(config), Clock::now())))
}

/// A client and a server, with all datagrams of a handshake between them.
pub(crate) fn dimpl_established([mut client, mut server]: [Dtls; 2]) -> (Dtls, Dtls) {
    let now = Clock::now();
    client.set_active(true);
    server.set_active(false);
    client.handle_timeout(now).expect("a fresh connection");
    server.handle_timeout(now).expect("a fresh connection");
    let mut connected = 0;
    for _ in 0..16 {
        connected += dimpl_pass(&mut client, &mut server) + dimpl_pass(&mut server, &mut client);
        if connected == 2 {
            return (client, server);
        }
    }
    unreachable!("an honest handshake ends");
}

/// Hands all that one side has to send to the other; counts how often the first said that it is connected.
fn dimpl_pass(from: &mut Dtls, to: &mut Dtls) -> u32 {
    let mut out = [0; 2048];
    let mut connected = 0;
    loop {
        match from.poll_output(&mut out) {
            Output::Packet(packet) => to.handle_packet(packet).expect("an honest datagram"),
            Output::Connected => connected += 1,
            Output::Timeout(_) => return connected,
            _ => {}
        }
    }
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
    socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a possible time-out");
    let began = Clock::now();
    let time = || Instant::from_millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(0));
    let config = Config::DEFAULT.with_retransmit_after(Duration::from_millis(50));
    let psk = Psk { identity: IDENTITY, key: KEY };
    let mut client =
        Client::client(time(), &config, psk, &mut random, Handshake::new()).expect("a possible key");
    let mut out = [0; 2048];
    while !client.is_established() {
        while let Some(length) = client.poll_transmit(time(), &mut out) {
            // Refused while the other side is not there yet: it is sent again.
            let _ = socket.send(&out[..length]);
        }
        match socket.recv(&mut out) {
            Ok(length) => {
                let mut datagram = Datagram::new(&mut out[..length]);
                while client.handle(time(), &mut datagram).is_some() {}
            }
            Err(_) => drop(client.handle_timeout(time())),
        }
        assert!(!client.is_closed(), "the server refuses the handshake");
    }
    client.close();
    while let Some(length) = client.poll_transmit(time(), &mut out) {
        let _ = socket.send(&out[..length]);
    }
}

fn openssl() -> Option<(Child, SocketAddr)> {
    let port = free_port();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-dtls1_2", "-nocert", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
    command.args(["-cipher", "PSK-AES128-CCM8:@SECLEVEL=0", "-psk_identity", "urn:imei:123456"]);
    command.args(["-psk", &hex::encode(KEY)]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    Some((Child::adopt(child), SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}

/// The child process of the last row: one thread, one socket, connections by address.
pub(crate) fn serve() -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", socket.local_addr()?);
    let began = Clock::now();
    let time = || Instant::from_millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(0));
    let mut jar = CookieJar::new(time(), &mut random);
    let mut peers = std::collections::HashMap::<SocketAddr, Server>::new();
    let (mut received, mut out) = ([0; 2048], [0; 2048]);
    loop {
        let (length, from) = socket.recv_from(&mut received)?;
        let bytes = &mut received[..length];
        let Some(peer) = peers.get_mut(&from) else {
            let SocketAddr::V4(address) = from else { continue };
            let name = [&address.ip().octets()[..], &address.port().to_be_bytes()].concat();
            match jar.accept(time(), &Config::DEFAULT, &mut random, &name, bytes, &mut out) {
                Accepted::Reply(length) => drop(socket.send_to(&out[..length], from)?),
                Accepted::Verified(hello) => {
                    let memory = Box::new(Handshake::new());
                    let Ok(mut peer) = Server::server(time(), &Config::DEFAULT, &hello, &mut random, memory)
                    else {
                        continue;
                    };
                    while let Some(length) = peer.poll_transmit(time(), &mut out) {
                        socket.send_to(&out[..length], from)?;
                    }
                    peers.insert(from, peer);
                }
                _ => {}
            }
            continue;
        };
        feed_server(peer, bytes);
        while let Some(length) = peer.poll_transmit(time(), &mut out) {
            socket.send_to(&out[..length], from)?;
        }
        if peer.is_closed() {
            peers.remove(&from);
        }
    }
}

pub(crate) fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

fn nanos(time: Duration) -> String {
    format!("{} ns", time.as_nanos())
}

pub(crate) fn ratio(ours: Duration, theirs: Duration) -> String {
    format!("{:.2}", ours.as_secs_f64() / theirs.as_secs_f64())
}
