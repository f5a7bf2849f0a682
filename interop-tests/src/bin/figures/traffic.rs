//! Devices that only register, send Updates and are observed, all in one thread over few sockets: so light that the measured
//! process, server or echo, is the one that has more to do.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use dtls_psk::{
    Config, Connection, ConnectionId, Datagram, HEADROOM, Handshake, Input, Instant, Psk, TAILROOM,
};
use interop_tests::load::name;
use interop_tests::swarm::address_of;
use lwm2m_coap::{
    Code, ContentFormat, Header, Kind, Message, MessageId, OptionNumber, Room, Token, Writer, udp,
};
use quinn_udp::{Transmit, UdpSocketState};

use crate::protected::Protected;
use crate::server::Admission;

/// All devices, each at an address of its own in 127/8.
pub(crate) struct Traffic {
    devices: Vec<Device>,
    sockets: Vec<Socket>,
}

/// How devices are connected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security<'a> {
    None,
    /// A session under this key.
    Dtls(&'a [u8]),
    /// The same, with the Connection ID that the server gives out.
    ConnectionId(&'a [u8]),
    /// No session: messages are protected by OSCORE.
    Oscore,
}

impl Security<'_> {
    /// Whom the server lets in.
    pub(crate) const fn admission(self) -> Admission {
        match self {
            Self::None => Admission::Anybody,
            Self::Dtls(_) | Self::ConnectionId(_) => Admission::Dtls,
            Self::Oscore => Admission::Oscore,
        }
    }
}

/// How far devices go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// They have a session.
    Connected,
    /// They are registered.
    Registered,
    /// They have answered so many Observes besides.
    Observed(usize),
}

/// As many as may have a request under way: what comes in is then the answer to what went out last.
pub(crate) const SOCKETS: usize = 32;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Whom the devices send to.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    Server,
    /// An echo gets datagrams of this size.
    Echo(SocketAddr, usize),
}

struct Device {
    number: usize,
    server: SocketAddr,
    session: Option<Connection<384>>,
    protected: Option<Box<Protected>>,
    id: u16,
    /// The Update, but for the message id.
    update: Vec<u8>,
}

const TOKEN: [u8; 4] = *b"load";
const ROOM: Room = Room { head: HEADROOM, tail: TAILROOM };

impl Traffic {
    /// Brings `devices` to a stage, one after the other.
    pub(crate) fn begin(server: SocketAddr, devices: usize, security: Security<'_>, stage: Stage) -> Self {
        let sockets: Vec<Socket> = (0..SOCKETS).map(|_| Socket::open()).collect();
        let device = |number| {
            let name = name("load", number);
            let (key, config) = match security {
                Security::None | Security::Oscore => (None, Config::DEFAULT),
                Security::Dtls(key) => (Some(key), Config::DEFAULT),
                Security::ConnectionId(key) => {
                    let none = ConnectionId::new(&[]).expect("an empty one");
                    (Some(key), Config::DEFAULT.with_connection_id(none))
                }
            };
            let session = key.map(|key| {
                let psk = Psk { identity: name.as_bytes(), key };
                Connection::client(now(), &config, psk, &mut random, Handshake::new())
                    .expect("a possible key")
            });
            let protected = (security == Security::Oscore).then(|| Box::new(Protected::new(number)));
            let mut device = Device { number, server, session, protected, id: 0, update: Vec::new() };
            let socket = &sockets[number % SOCKETS];
            device.connect(socket);
            if stage != Stage::Connected {
                device.register(socket, &name);
            }
            if let Stage::Observed(count) = stage {
                (0..count).for_each(|_| device.answer(socket));
            }
            device
        };
        Self { devices: (0..devices).map(device).collect(), sockets }
    }

    /// Sends `count` Updates, one of each device in turn, always `at_once` under way, [`SOCKETS`] at most.
    pub(crate) fn run(&mut self, count: usize, at_once: usize, target: Target) {
        let devices = self.devices.len() / SOCKETS * SOCKETS;
        assert!(at_once <= SOCKETS && devices > 0, "each request under way has a socket for itself");
        for number in 0..count + at_once {
            if let Some(waiting) = number.checked_sub(at_once) {
                let waiting = waiting % devices;
                self.devices[waiting].finish(&self.sockets[waiting % SOCKETS], target);
            }
            if number < count {
                let number = number % devices;
                self.devices[number].start(&self.sockets[number % SOCKETS], target);
            }
        }
    }

    /// Sends `count` Updates, one of each device in turn, `gap` apart whether or not the answers keep up, [`SOCKETS`] under way
    /// at most; how long each took since it was due.
    pub(crate) fn paced(&mut self, count: usize, gap: Duration, target: Target) -> Vec<Duration> {
        let devices = self.devices.len() / SOCKETS * SOCKETS;
        self.sockets.iter().for_each(|socket| socket.block(false));
        let (mut sent, mut took) = (0, Vec::with_capacity(count));
        let mut due = std::time::Instant::now();
        let mut under_way = VecDeque::with_capacity(SOCKETS);
        while took.len() < count {
            if sent < count && under_way.len() < SOCKETS && due <= std::time::Instant::now() {
                let number = sent % devices;
                self.devices[number].start(&self.sockets[number % SOCKETS], target);
                under_way.push_back((number, due));
                sent += 1;
                due += gap;
            }
            let Some(&(number, since)) = under_way.front() else { continue };
            assert!(since.elapsed() < PATIENCE, "the server answers");
            let socket = &self.sockets[number % SOCKETS];
            if socket.has_some() {
                took.push(since.elapsed());
                self.devices[number].finish(socket, target);
                under_way.pop_front();
            }
        }
        self.sockets.iter().for_each(|socket| socket.block(true));
        took
    }
}

impl Device {
    fn connect(&mut self, socket: &Socket) {
        while self.session.as_ref().is_some_and(|session| !session.is_established()) {
            let mut out = [0; 512];
            let Some(session) = &mut self.session else { break };
            while let Some(length) = session.poll_transmit(now(), &mut out) {
                socket.send(self.number, self.server, &out[..length]);
            }
            let length = socket.socket.recv(&mut out).expect("the server answers");
            let mut datagram = Datagram::new(&mut out[..length]);
            while session.handle(now(), &mut datagram).is_some() {}
        }
    }

    fn register(&mut self, socket: &Socket, name: &str) {
        let token = self.token();
        self.send(socket, &register(name, token));
        self.update = self.receive(socket, |_, message| {
            assert_eq!(message.code, Code::CREATED, "the device is registered");
            update(message.options.location_path().nth(1).expect("a location"), token)
        });
    }

    /// Answers an Observe with a value.
    fn answer(&mut self, socket: &Socket) {
        let answer = self.receive(socket, |header, request| {
            assert_eq!(request.options.observe(), Some(0), "the server observes");
            let mut out = [0; 256];
            let mut writer = Writer::new(&mut out, ROOM, Code::CONTENT);
            let written = writer.observe(1).and_then(|writer| writer.content_format(ContentFormat::TEXT));
            written.and_then(|writer| writer.payload(b"20")).expect("a short message");
            let header = Header { kind: Kind::Acknowledgement, id: header.id };
            let range = writer.finish().expect("a short message").emit(header, request.token);
            out[range].to_vec()
        });
        self.send(socket, &answer);
    }

    fn start(&mut self, socket: &Socket, target: Target) {
        if let Target::Echo(echo, size) = target {
            socket.send(self.number, echo, &[0; 64][..size]);
            return;
        }
        let mut update = core::mem::take(&mut self.update);
        self.id = self.id.wrapping_add(1);
        update[2..4].copy_from_slice(&self.id.to_be_bytes());
        self.send(socket, &update);
        self.update = update;
    }

    fn finish(&mut self, socket: &Socket, target: Target) {
        match target {
            Target::Server => self.receive(socket, |_, message| assert_eq!(message.code, Code::CHANGED)),
            Target::Echo(..) => drop(socket.socket.recv(&mut [0; 64]).expect("an echo")),
        }
    }

    fn token(&self) -> &'static [u8] {
        if self.session.is_some() { &TOKEN[..1] } else { &TOKEN }
    }

    fn send(&mut self, socket: &Socket, message: &[u8]) {
        if let Some(protected) = &mut self.protected {
            return socket.send(self.number, self.server, &protected.protect(message));
        }
        let Some(session) = &mut self.session else {
            return socket.send(self.number, self.server, message);
        };
        let mut out = [0; 256];
        let payload = HEADROOM..HEADROOM + message.len();
        out[payload.clone()].copy_from_slice(message);
        let record = session.seal(&mut out, payload).expect("the session is established");
        socket.send(self.number, self.server, &out[record]);
    }

    fn receive<T>(&mut self, socket: &Socket, read: impl FnOnce(Header, Message<'_>) -> T) -> T {
        let mut buffer = [0; 512];
        let length = socket.socket.recv(&mut buffer).expect("an answer");
        let bytes = &mut buffer[..length];
        if let Some(protected) = &mut self.protected {
            return protected.take(bytes, read).expect("the server has the keys");
        }
        let Some(session) = &mut self.session else {
            let (header, message) = udp::parse(bytes).expect("a message");
            return read(header, message);
        };
        let mut datagram = Datagram::new(bytes);
        match session.handle(now(), &mut datagram) {
            Some(Input::Application(message)) => {
                let (header, message) = udp::parse(message).expect("a message");
                read(header, message)
            }
            _ => unreachable!("the server keeps the session"),
        }
    }
}

impl Socket {
    fn block(&self, does: bool) {
        self.socket.set_nonblocking(!does).expect("a socket of this system");
    }

    /// Whether one that does not block has a datagram.
    fn has_some(&self) -> bool {
        self.socket.peek_from(&mut [0; 1]).is_ok()
    }

    fn open() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let state = UdpSocketState::new((&socket).into()).expect("a socket of this system");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out that is not zero");
        let socket = Self { socket, state };
        // The state made it one that does not block.
        socket.block(true);
        socket
    }

    fn send(&self, device: usize, to: SocketAddr, datagram: &[u8]) {
        let src_ip = Some(address_of(device).into());
        let transmit =
            Transmit { destination: to, ecn: None, contents: datagram, segment_size: None, src_ip };
        self.state.try_send((&self.socket).into(), &transmit).expect("loopback");
    }
}

fn register(name: &str, token: &[u8]) -> Vec<u8> {
    message(token, |writer| {
        writer.option(OptionNumber::URI_PATH, b"rd")?;
        writer.content_format(ContentFormat::LINK_FORMAT)?;
        for query in [&format!("ep={name}"), "lt=86400", "lwm2m=1.1", "b=U"] {
            writer.option(OptionNumber::URI_QUERY, query.as_bytes())?;
        }
        writer.payload(b"</1/0>,</3/0>,</4/0>,</5/0>")
    })
}

fn update(location: &[u8], token: &[u8]) -> Vec<u8> {
    message(token, |writer| {
        writer.option(OptionNumber::URI_PATH, b"rd")?.option(OptionNumber::URI_PATH, location)?;
        Ok(())
    })
}

fn message(
    token: &[u8],
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), lwm2m_coap::WriteError>,
) -> Vec<u8> {
    let mut out = [0; 256];
    let mut writer = Writer::new(&mut out, ROOM, Code::POST);
    write(&mut writer).expect("a short message");
    let header = Header { kind: Kind::Confirmable, id: MessageId(0) };
    let range = writer.finish().expect("a short message").emit(header, Token::new(token).expect("a token"));
    out[range].to_vec()
}

fn now() -> Instant {
    Instant::from_millis(0)
}

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has randomness");
}
