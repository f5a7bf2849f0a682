//! A translator of addresses between one client and one server, as a network has it: everything passes through it and can be
//! read, and it can give the client another address.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lwm2m_coap::udp::parse;

use crate::process::{local, socket};
use crate::random::Random;
use crate::sniffer::From;

/// The translator; it passes on what comes until the test ends.
#[derive(Debug, Clone)]
pub struct Relay(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: SocketAddr,
    near: UdpSocket,
    /// What the server knows as the address of the client.
    far: Mutex<Arc<UdpSocket>>,
    client: Mutex<Option<SocketAddr>>,
}

impl Relay {
    /// Begins to translate for the server at `uri`; `read` sees each datagram before it is passed on.
    ///
    /// # Panics
    /// When `uri` does not name an address and a port.
    pub fn start(uri: &str, mut read: impl FnMut(From, &[u8]) + Send + 'static) -> Self {
        Self::filtering(uri, move |from, datagram| {
            read(from, datagram);
            true
        })
    }

    /// The same, and loses so many of a thousand datagrams: others for another seed.
    pub fn losing(uri: &str, per_mille: u16, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self::filtering(uri, move |_, _| !random.chance(per_mille))
    }

    /// Begins to translate for the server at `uri`; everything is lost until the flag says that it is open.
    pub fn closed(uri: &str) -> (Self, Arc<AtomicBool>) {
        let is_open = Arc::new(AtomicBool::new(false));
        let is_passed = Arc::clone(&is_open);
        (Self::filtering(uri, move |_, _| is_passed.load(Ordering::Relaxed)), is_open)
    }

    /// As [`Relay::start`]; what `is_passed` says no to is lost.
    fn filtering(uri: &str, is_passed: impl FnMut(From, &[u8]) -> bool + Send + 'static) -> Self {
        let server = uri.split_once("://").and_then(|(_, authority)| authority.parse().ok());
        let relay = Self(Arc::new(Inner {
            server: server.expect("the URI has an address and a port"),
            near: socket(),
            far: Mutex::new(Arc::new(socket())),
            client: Mutex::new(None),
        }));
        let is_passed = Arc::new(Mutex::new(is_passed));
        relay.pass_on(From::Client, Arc::clone(&is_passed));
        relay.pass_on(From::Server, is_passed);
        relay
    }

    /// As [`Relay::start`] where nothing is secured; counts the messages with a Block1 and those with a Block2 option.
    pub fn counting_blocks(uri: &str) -> (Self, Arc<[AtomicUsize; 2]>) {
        let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let counted = Arc::clone(&counts);
        let relay = Self::start(uri, move |_, datagram| {
            let Ok((_, message)) = parse(datagram) else { return };
            let blocks = [message.options.block1(), message.options.block2()];
            for (block, count) in blocks.iter().zip(&*counted) {
                if matches!(block, Ok(Some(_))) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        (relay, counts)
    }

    /// Returns the port that stands for the server's.
    pub fn port(&self) -> u16 {
        port(&self.0.near)
    }

    /// Gives the client another address and returns its port; what the server sends to the one before is lost.
    pub fn translate(&self) -> u16 {
        let next = Arc::new(socket());
        let former = std::mem::replace(&mut *lock(&self.0.far), Arc::clone(&next));
        // Wakes who waits there.
        let _ = former.send_to(&[], local(port(&former)));
        port(&next)
    }

    fn pass_on(&self, from: From, is_passed: Arc<Mutex<impl FnMut(From, &[u8]) -> bool + Send + 'static>>) {
        let inner = Arc::clone(&self.0);
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            loop {
                let far = Arc::clone(&lock(&inner.far));
                // While one of the two is down the system may say that nobody listens.
                let received = match from {
                    From::Client => inner.near.recv_from(&mut buffer),
                    From::Server => far.recv_from(&mut buffer),
                };
                let Ok((length, sender)) = received else { continue };
                let datagram = buffer.get(..length).unwrap_or_default();
                // It may have changed meanwhile.
                let current = Arc::clone(&lock(&inner.far));
                let to = match from {
                    From::Client => {
                        *lock(&inner.client) = Some(sender);
                        Some((&*current, inner.server))
                    }
                    From::Server if sender == inner.server && Arc::ptr_eq(&far, &current) => {
                        lock(&inner.client).map(|client| (&inner.near, client))
                    }
                    From::Server => None,
                };
                let Some((socket, address)) = to else { continue };
                if (lock(&is_passed))(from, datagram) {
                    // As on any network: what cannot be sent is lost.
                    let _ = socket.send_to(datagram, address);
                }
            }
        });
    }
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().map(|address| address.port()).expect("a bound socket")
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_read_and_the_client_moves() {
        let (client, server) = (socket(), socket());
        let read = Arc::new(Mutex::new(Vec::new()));
        let uri = format!("coap://{}", server.local_addr().unwrap());
        let relay = Relay::start(&uri, {
            let read = Arc::clone(&read);
            move |from, datagram| read.lock().unwrap().push((from, datagram.to_vec()))
        });
        client.connect(local(relay.port())).unwrap();
        let mut buffer = [0; 8];
        let mut ask_and_answer = || {
            client.send(b"ask").unwrap();
            let (_, seen) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"answer", seen).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
            seen
        };
        let first = ask_and_answer();
        assert_eq!(ask_and_answer(), first);
        let moved = relay.translate();
        server.send_to(b"lost", first).unwrap();
        assert_eq!(ask_and_answer(), local(moved));
        assert_ne!(first, local(moved));
        let read = read.lock().unwrap();
        let each = [(From::Client, b"ask".to_vec()), (From::Server, b"answer".to_vec())];
        assert_eq!(*read, each.iter().cycle().take(6).cloned().collect::<Vec<_>>());
    }
}
