//! The four UDP sockets, without blocking and without copies.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use crate::endpoint::{Address, Listener, Transmit};

/// Addresses to listen on, or those that were bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Management over plain CoAP.
    pub coap: Option<SocketAddr>,
    /// Management over DTLS.
    pub coaps: Option<SocketAddr>,
    /// Bootstrap over plain CoAP.
    pub bootstrap_coap: Option<SocketAddr>,
    /// Bootstrap over DTLS.
    pub bootstrap_coaps: Option<SocketAddr>,
}

impl Addresses {
    /// The address of one listener.
    #[must_use]
    pub const fn of(&self, listener: Listener) -> Option<SocketAddr> {
        match listener {
            Listener::Coap => self.coap,
            Listener::Coaps => self.coaps,
            Listener::BootstrapCoap => self.bootstrap_coap,
            Listener::BootstrapCoaps => self.bootstrap_coaps,
        }
    }
}

/// A socket cannot be opened.
#[derive(Debug)]
pub struct StartError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the operating system said.
    pub source: io::Error,
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.source)
    }
}

impl core::error::Error for StartError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
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

pub(crate) struct Sockets {
    coap: Option<UdpSocket>,
    coaps: Option<UdpSocket>,
    bootstrap_coap: Option<UdpSocket>,
    bootstrap_coaps: Option<UdpSocket>,
}

/// Room for a burst of a fleet that comes back at once; the system may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;

impl Sockets {
    pub(crate) fn open(addresses: &Addresses) -> Result<Self, StartError> {
        let open = |address: Option<SocketAddr>| address.map(open).transpose();
        Ok(Self {
            coap: open(addresses.coap)?,
            coaps: open(addresses.coaps)?,
            bootstrap_coap: open(addresses.bootstrap_coap)?,
            bootstrap_coaps: open(addresses.bootstrap_coaps)?,
        })
    }

    pub(crate) fn addresses(&self) -> Addresses {
        let bound = |listener| self.socket(listener).and_then(|socket| socket.local_addr().ok());
        Addresses {
            coap: bound(Listener::Coap),
            coaps: bound(Listener::Coaps),
            bootstrap_coap: bound(Listener::BootstrapCoap),
            bootstrap_coaps: bound(Listener::BootstrapCoaps),
        }
    }

    /// Waits until one of the sockets can be read.
    pub(crate) async fn readable(&self) -> Arrival {
        tokio::select! {
            () = readable(self.coap.as_ref()) => Arrival(Listener::Coap),
            () = readable(self.coaps.as_ref()) => Arrival(Listener::Coaps),
            () = readable(self.bootstrap_coap.as_ref()) => Arrival(Listener::BootstrapCoap),
            () = readable(self.bootstrap_coaps.as_ref()) => Arrival(Listener::BootstrapCoaps),
        }
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
            tracing::debug!(%error, to = %transmit.to, "a datagram was not sent");
        }
    }

    const fn socket(&self, listener: Listener) -> Option<&UdpSocket> {
        match listener {
            Listener::Coap => self.coap.as_ref(),
            Listener::Coaps => self.coaps.as_ref(),
            Listener::BootstrapCoap => self.bootstrap_coap.as_ref(),
            Listener::BootstrapCoaps => self.bootstrap_coaps.as_ref(),
        }
    }
}

async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        // A socket that cannot be waited for is as one without input.
        Some(socket) if socket.readable().await.is_ok() => {}
        _ => core::future::pending().await,
    }
}

fn open(address: SocketAddr) -> Result<UdpSocket, StartError> {
    let bind = || {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::DGRAM,
            Some(socket2::Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        // Less than asked for is no fault.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    bind().map_err(|source| StartError { address, source })
}
