//! The UDP sockets of a thread, without blocking and without copies.

use core::cell::Cell;
use core::task::{Context, Poll};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU8;

use tokio::net::UdpSocket;

use crate::endpoint::{Address, Addresses, Listener, Transmit};

use super::steering::steer;

/// The server cannot be started.
#[derive(Debug)]
pub enum StartError {
    /// A socket cannot be opened.
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The thread of the sockets cannot be started.
    Thread(io::Error),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Thread(source) => write!(f, "cannot start the thread of the sockets: {source}"),
        }
    }
}

impl core::error::Error for StartError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } | Self::Thread(source) => Some(source),
        }
    }
}

/// A socket that has something to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival(Listener);

impl Arrival {
    pub(crate) const fn listener(self) -> Listener {
        self.0
    }
}

/// The sockets, bound and not yet waited for.
pub(crate) struct Bound([Option<std::net::UdpSocket>; Listener::COUNT]);

impl Bound {
    /// Opens the sockets of each of `threads`, all on the same addresses.
    pub(crate) fn open(addresses: &Addresses, threads: NonZeroU8) -> Result<Vec<Self>, StartError> {
        let mut bound: Vec<Self> =
            (0..threads.get()).map(|_| Self([const { None }; Listener::COUNT])).collect();
        for listener in Listener::ALL {
            let Some(address) = addresses.of(listener) else { continue };
            let sockets = open(address, threads).map_err(|source| StartError::Listen { address, source })?;
            if let Some(first) = sockets.first().filter(|_| threads.get() > 1 && listener.is_secure()) {
                steer(first, threads);
            }
            for (thread, socket) in bound.iter_mut().zip(sockets) {
                if let Some(place) = thread.0.get_mut(listener as usize) {
                    *place = Some(socket);
                }
            }
        }
        Ok(bound)
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.0.each_ref().map(|socket| socket.as_ref()?.local_addr().ok()).into()
    }

    /// Lets the runtime of this thread wait for them.
    pub(crate) fn attach(self) -> io::Result<Sockets> {
        let mut sockets = Sockets {
            sockets: [const { None }; Listener::COUNT],
            turn: 0,
            oversized: 0,
            unsent: Cell::new(0),
        };
        for (to, from) in sockets.sockets.iter_mut().zip(self.0) {
            *to = from.map(UdpSocket::from_std).transpose()?;
        }
        Ok(sockets)
    }
}

pub(crate) struct Sockets {
    /// In the order of [`Listener::ALL`].
    sockets: [Option<UdpSocket>; Listener::COUNT],
    /// Where the next look at them begins, so that a busy socket leaves the others their turn.
    turn: usize,
    /// Datagrams that were longer than the buffer to read them.
    pub(crate) oversized: u64,
    /// Datagrams that the system did not take.
    pub(crate) unsent: Cell<u64>,
}

/// Room for a burst of a fleet that comes back at once; the system may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;

impl Sockets {
    /// Whether one of the sockets can be read; one that cannot be waited for is as one without input. Only one task may
    /// wait.
    pub(crate) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<Arrival> {
        let turn = self.turn;
        let listeners = Listener::ALL.into_iter().enumerate().cycle().skip(turn).take(self.sockets.len());
        for (index, listener) in listeners {
            if let Some(socket) = self.socket(listener)
                && socket.poll_recv_ready(context).map(|ready| ready.is_ok()) == Poll::Ready(true)
            {
                self.turn = index.saturating_add(1);
                return Poll::Ready(Arrival(listener));
            }
        }
        Poll::Pending
    }

    /// Reads one datagram, if there is one. An error that a former datagram caused (ICMP) is nothing to read.
    pub(crate) fn receive(&self, arrival: Arrival, datagram: &mut [u8]) -> Option<(usize, Address)> {
        let (length, from) = self.socket(arrival.0)?.try_recv_from(datagram).ok()?;
        Some((length, from.into()))
    }

    /// Writes one datagram. What the system does not take is lost, as on the way: CoAP and DTLS repeat it.
    pub(crate) fn send(&self, transmit: &Transmit, out: &[u8]) {
        if let Some(socket) = self.socket(transmit.local)
            && let Some(bytes) = out.get(transmit.range.clone())
            && let Err(error) = socket.try_send_to(bytes, transmit.to.socket_address())
        {
            self.unsent.set(self.unsent.get().saturating_add(1));
            tracing::debug!(%error, to = %transmit.to, "a datagram was not sent");
        }
    }

    fn socket(&self, listener: Listener) -> Option<&UdpSocket> {
        self.sockets.get(listener as usize)?.as_ref()
    }
}

/// As many sockets on one address as there are threads.
fn open(address: SocketAddr, threads: NonZeroU8) -> io::Result<Vec<std::net::UdpSocket>> {
    // Sockets that share an address share it with any other process of the same user that asks for it. The first one does
    // not share while it is bound, and so finds out whether somebody is there; it also lets the system choose a port.
    let first = bind(address, false)?;
    if threads.get() == 1 {
        return Ok(vec![first.into()]);
    }
    first.set_reuse_port(true)?;
    let first = std::net::UdpSocket::from(first);
    let address = first.local_addr()?;
    let others = (1..threads.get()).map(|_| bind(address, true).map(Into::into));
    core::iter::once(Ok(first)).chain(others).collect()
}

fn bind(address: SocketAddr, is_shared: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    // Less than asked for is no fault.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn of_servers_that_start_at_once_one_gets_the_address() {
        const THREADS: NonZeroU8 = NonZeroU8::new(2).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = open(any, NonZeroU8::MIN).unwrap().first().unwrap().local_addr().unwrap();
        let barrier = Barrier::new(2);
        let winners = || {
            (0..500).map(|_| {
                barrier.wait();
                let opened = open(address, THREADS);
                barrier.wait();
                u8::from(opened.is_ok_and(|sockets| sockets.len() == 2))
            })
        };
        let both: Vec<u8> = std::thread::scope(|scope| {
            let other = scope.spawn(|| winners().collect::<Vec<_>>());
            let mine: Vec<u8> = winners().collect();
            mine.into_iter()
                .zip(other.join().unwrap())
                .map(|(one, other)| one.saturating_add(other))
                .collect()
        });
        assert!(both.iter().all(|winners| *winners <= 1), "{both:?}");
        assert!(both.contains(&1));
    }

    #[tokio::test]
    async fn what_the_system_does_not_take_is_counted() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = UdpSocket::bind(any).await.unwrap();
        let to = socket.local_addr().unwrap().into();
        socket.writable().await.unwrap();
        let sockets = Sockets {
            sockets: [Some(socket), None, None, None, None, None],
            turn: 0,
            oversized: 0,
            unsent: Cell::new(0),
        };
        // No datagram has as many bytes as the last one.
        for (length, unsent) in [(100, 0), (70_000, 1)] {
            sockets.send(&Transmit { local: Listener::Coap, to, range: 0..length }, &vec![0; length]);
            assert_eq!(sockets.unsent.get(), unsent);
        }
    }
}
