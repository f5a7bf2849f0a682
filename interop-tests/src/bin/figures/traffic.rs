//! Devices that only register and send Updates, all in one thread: so light that the measured process, server or echo, is
//! the one that has more to do.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use dtls_psk::{Config, Connection, Datagram, HEADROOM, Handshake, Input, Instant, Psk, TAILROOM};
use interop_tests::load::name;
use lwm2m_coap::{
    Code, ContentFormat, Header, Kind, Message, MessageId, OptionNumber, Room, Token, Writer, udp,
};

/// All devices, with a socket each.
pub(crate) struct Traffic {
    devices: Vec<Device>,
}

/// Whom the devices send to.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    Server,
    /// An echo gets datagrams of this size.
    Echo(SocketAddr, usize),
}

struct Device {
    server: SocketAddr,
    socket: UdpSocket,
    session: Option<Connection<384>>,
    id: u16,
    /// The Update, but for the message id.
    update: Vec<u8>,
}

const TOKEN: [u8; 4] = *b"load";
const ROOM: Room = Room { head: HEADROOM, tail: TAILROOM };

impl Traffic {
    /// Registers `devices`, one after the other, with sessions when there is a `key`.
    pub(crate) fn register(server: SocketAddr, devices: usize, key: Option<&[u8]>) -> Self {
        let device = |number| {
            let name = name("load", number);
            let session = key.map(|key| {
                let psk = Psk { identity: name.as_bytes(), key };
                let memory = Handshake::new();
                Connection::client(now(), &Config::DEFAULT, psk, &mut random, memory).expect("a possible key")
            });
            let mut device = Device { server, socket: open(), session, id: 0, update: Vec::new() };
            device.register(&name);
            device
        };
        Self { devices: (0..devices).map(device).collect() }
    }

    /// Sends `count` Updates, one of each device in turn, always `at_once` under way.
    pub(crate) fn run(&mut self, count: usize, at_once: usize, target: Target) {
        let devices = self.devices.len();
        let at_once = at_once.min(devices);
        for number in 0..count + at_once {
            if let Some(waiting) = number.checked_sub(at_once) {
                self.devices[waiting % devices].finish(target);
            }
            if number < count {
                self.devices[number % devices].start(target);
            }
        }
    }
}

impl Device {
    fn register(&mut self, name: &str) {
        while self.session.as_ref().is_some_and(|session| !session.is_established()) {
            let mut out = [0; 512];
            let Some(session) = &mut self.session else { break };
            while let Some(length) = session.poll_transmit(now(), &mut out) {
                self.socket.send_to(&out[..length], self.server).expect("loopback");
            }
            let length = self.socket.recv(&mut out).expect("the server answers");
            let mut datagram = Datagram::new(&mut out[..length]);
            while session.handle(now(), &mut datagram).is_some() {}
        }
        let token = self.token();
        self.send(&register(name, token));
        self.update = self.receive(|message| {
            assert_eq!(message.code, Code::CREATED, "the device is registered");
            update(message.options.location_path().nth(1).expect("a location"), token)
        });
    }

    fn start(&mut self, target: Target) {
        if let Target::Echo(echo, size) = target {
            self.socket.send_to(&[0; 64][..size], echo).expect("loopback");
            return;
        }
        let mut update = core::mem::take(&mut self.update);
        self.id = self.id.wrapping_add(1);
        update[2..4].copy_from_slice(&self.id.to_be_bytes());
        self.send(&update);
        self.update = update;
    }

    fn finish(&mut self, target: Target) {
        match target {
            Target::Server => self.receive(|message| assert_eq!(message.code, Code::CHANGED)),
            Target::Echo(..) => drop(self.socket.recv(&mut [0; 64]).expect("an echo")),
        }
    }

    fn token(&self) -> &'static [u8] {
        if self.session.is_some() { &TOKEN[..1] } else { &TOKEN }
    }

    fn send(&mut self, message: &[u8]) {
        let Some(session) = &mut self.session else {
            self.socket.send_to(message, self.server).expect("loopback");
            return;
        };
        let mut out = [0; 256];
        let payload = HEADROOM..HEADROOM + message.len();
        out[payload.clone()].copy_from_slice(message);
        let record = session.seal(&mut out, payload).expect("the session is established");
        self.socket.send_to(&out[record], self.server).expect("loopback");
    }

    fn receive<T>(&mut self, read: impl FnOnce(Message<'_>) -> T) -> T {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).expect("an answer");
        let bytes = &mut buffer[..length];
        let Some(session) = &mut self.session else {
            return read(udp::parse(bytes).expect("a message").1);
        };
        let mut datagram = Datagram::new(bytes);
        match session.handle(now(), &mut datagram) {
            Some(Input::Application(message)) => read(udp::parse(message).expect("a message").1),
            _ => unreachable!("the server keeps the session"),
        }
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

fn open() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out that is not zero");
    socket
}

fn now() -> Instant {
    Instant::from_millis(0)
}

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system has randomness");
}
