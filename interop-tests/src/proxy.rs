//! A CoAP proxy without keys between one client and one server (RFC 7252 §5.7, RFC 7641 §5): message ids, tokens, acknowledgements and
//! repetitions are its own on both hops, requests go through it in both directions, and it reads what it can.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant as Clock};

use lwm2m_coap::observe::REGISTER;
use lwm2m_coap::protect::Plain;
use lwm2m_coap::{
    Delivery, Exchange, Input, Instant, Message, Observer, OptionNumber, Parameters, Peer, RequestId, Room,
    Sent, Token, TokenPolicy, Writer,
};

use crate::coap::Kept;
use crate::process::{local, socket};
use crate::random::Random;

/// The proxy; it works until the test ends.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    passed: Arc<Passed>,
}

/// What went through it.
#[derive(Debug, Default)]
pub struct Passed {
    requests: AtomicUsize,
    responses: AtomicUsize,
    notifications: AtomicUsize,
}

impl Proxy {
    /// Begins to stand between a client and the server at `uri`; `read` sees each message as the proxy understands it.
    ///
    /// # Panics
    /// When `uri` does not name an address and a port.
    pub fn start(uri: &str, read: impl FnMut(&Message<'_>) + Send + 'static) -> Self {
        let server = uri.split_once("://").and_then(|(_, authority)| authority.parse().ok());
        let server: SocketAddr = server.expect("the URI has an address and a port");
        let (near, far) = (socket(), socket());
        let port = near.local_addr().expect("a bound socket").port();
        let passed = Arc::<Passed>::default();
        let sockets = [near, far].map(Arc::new);
        let mut random = Random::new(u64::from(port));
        let hops = [None, Some(server)].map(|remote| Hop {
            remote,
            peer: Peer::new(&PARAMETERS, TokenPolicy::Random, &mut |bytes| random.fill(bytes)),
            asked: Vec::new(),
            observers: Vec::new(),
        });
        let (began, counts) = (Clock::now(), Arc::clone(&passed));
        let inner = Inner { hops, sockets: sockets.clone(), began, random, passed: counts, read };
        let inner = Arc::new(Mutex::new(inner));
        for (side, socket) in sockets.into_iter().enumerate() {
            let inner = Arc::clone(&inner);
            thread::spawn(move || serve(&inner, side, &socket));
        }
        Self { port, passed }
    }

    /// Returns where it stands for the server.
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Returns how many requests, responses and notifications it passed on.
    pub fn passed(&self) -> [usize; 3] {
        let Passed { requests, responses, notifications } = &*self.passed;
        [requests, responses, notifications].map(|count| count.load(Ordering::Relaxed))
    }
}

/// One of its two sides.
struct Hop {
    remote: Option<SocketAddr>,
    peer: Peer<Kept, 8, 16, 16>,
    /// Requests that went out here, what to answer on the other side, and their tokens here.
    asked: Vec<(RequestId, Token, Exchange)>,
    /// Observations of which notifications come in here: their tokens here, and who is told on the other side.
    observers: Vec<(Token, Observer)>,
}

struct Inner<F> {
    hops: [Hop; 2],
    sockets: [Arc<UdpSocket>; 2],
    began: Clock,
    random: Random,
    passed: Arc<Passed>,
    read: F,
}

fn serve<F: FnMut(&Message<'_>)>(inner: &Mutex<Inner<F>>, side: usize, socket: &UdpSocket) {
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("the limit is not zero");
    let mut buffer = [0; 2048];
    loop {
        // While one of the two is down the system may say that nobody listens.
        let received = socket.recv_from(&mut buffer);
        let mut inner = lock(inner);
        if let Ok((length, from)) = received {
            inner.handle(side, from, buffer.get_mut(..length).unwrap_or_default());
        }
        inner.transmit();
    }
}

impl<F: FnMut(&Message<'_>)> Inner<F> {
    fn handle(&mut self, side: usize, from: SocketAddr, datagram: &mut [u8]) {
        let now = self.now();
        let other = 1_usize.saturating_sub(side);
        let Self { hops, sockets, random, passed, read, .. } = self;
        let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
        let Some((hop, next)) = pair(hops, side) else { return };
        // The server has one address, the client the one it was heard from last.
        if side == 1 && hop.remote != Some(from) {
            return;
        }
        hop.remote = Some(from);
        let mut out = [0; 2048];
        let sent = match hop.peer.handle(now, datagram, &mut Plain) {
            Input::Request { exchange, message } => {
                read(&message);
                passed.requests.fetch_add(1, Ordering::Relaxed);
                // RFC 7641 §3.6: an observation is renewed and ended under its token.
                let known = next.observers.iter().find(|(_, observer)| observer.token == message.token);
                let token = match (known, message.options.observe()) {
                    (Some((token, _)), Some(_)) => *token,
                    _ => next.peer.next_token(rng, |_| false),
                };
                if message.options.observe() == Some(REGISTER) {
                    next.observers.retain(|(other, _)| *other != token);
                    next.observers.push((token, exchange.observer()));
                }
                let writer = copied(&mut out, &message);
                next.peer.request(now, Delivery::Confirmable, token, writer, &mut Plain, rng).map(
                    |(request, range)| {
                        next.asked.push((request, token, exchange));
                        range
                    },
                )
            }
            Input::Response { request, message } => {
                read(&message);
                let Some(at) = hop.asked.iter().position(|(id, ..)| *id == request) else { return };
                let (_, token, mut exchange) = hop.asked.swap_remove(at);
                passed.responses.fetch_add(1, Ordering::Relaxed);
                if message.options.observe().is_none() {
                    hop.observers.retain(|(other, _)| *other != token);
                }
                next.peer.respond(now, &mut exchange, copied(&mut out, &message), &mut Plain, rng)
            }
            Input::Unsolicited { header, message } => {
                read(&message);
                let Some((_, observer)) = hop.observers.iter().find(|(token, _)| *token == message.token)
                else {
                    return hop.peer.reject(header);
                };
                passed.notifications.fetch_add(1, Ordering::Relaxed);
                hop.peer.accept(header);
                let writer = copied(&mut out, &message);
                next.peer.notify(now, Delivery::Confirmable, observer, writer, &mut Plain, rng)
            }
            Input::Reset(Sent::Notification(token)) => {
                return next.observers.retain(|(_, observer)| observer.token != token);
            }
            _ => return,
        };
        // As on any network: what cannot be sent is lost.
        if let (Ok(range), Some(socket)) = (sent, sockets.get(other)) {
            send(socket, next.remote, out.get(range));
        }
    }

    /// Sends what is due on both sides.
    fn transmit(&mut self) {
        let now = self.now();
        for (hop, socket) in self.hops.iter_mut().zip(&self.sockets) {
            let mut out = [0; 2048];
            while let Some(length) = hop.peer.poll_transmit(now, &mut out) {
                send(socket, hop.remote, out.get(..length));
            }
            while hop.peer.poll_event(now).is_some() {}
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// This hop and the other one.
fn pair(hops: &mut [Hop; 2], side: usize) -> Option<(&mut Hop, &mut Hop)> {
    let [near, far] = hops;
    match side {
        0 => Some((near, far)),
        1 => Some((far, near)),
        _ => None,
    }
}

fn send(socket: &UdpSocket, remote: Option<SocketAddr>, datagram: Option<&[u8]>) {
    if let (Some(remote), Some(datagram)) = (remote, datagram) {
        // As on any network: what cannot be sent is lost.
        let _ = socket.send_to(datagram, remote);
    }
}

/// The message with one hop less to go.
fn copied<'b>(buffer: &'b mut [u8], message: &Message<'_>) -> Writer<'b> {
    let mut writer = Writer::new(buffer, Room::NONE, message.code);
    for (number, value) in message.options {
        let hops = value.first().map(|hops| [hops.saturating_sub(1)]);
        let value = match &hops {
            Some(hops) if number == OptionNumber::HOP_LIMIT => &hops[..],
            _ => value,
        };
        writer.option(number, value).expect("they came in this order, and fitted");
    }
    writer.payload(message.payload).expect("it came in a datagram");
    writer
}

/// All critical options: who passes them on need not understand them.
static PARAMETERS: Parameters = Parameters {
    nstart: 8,
    known: &[
        OptionNumber::IF_MATCH,
        OptionNumber::URI_HOST,
        OptionNumber::IF_NONE_MATCH,
        OptionNumber::URI_PORT,
        OptionNumber::OSCORE,
        OptionNumber::URI_PATH,
        OptionNumber::URI_QUERY,
        OptionNumber::ACCEPT,
        OptionNumber::BLOCK2,
        OptionNumber::BLOCK1,
    ],
    ..Parameters::DEFAULT
};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
