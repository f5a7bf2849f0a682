//! How the datagrams of devices leave and arrive: by one socket for all, or by one for each.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// How datagrams leave and arrive.
pub(super) enum Sockets {
    /// One for all devices of a part, towards a server on loopback.
    Shared(Shared),
    /// One for each device.
    Own {
        open: BTreeMap<usize, (Arc<UdpSocket>, UdpSocketState)>,
        arrivals: mpsc::UnboundedSender<(usize, Vec<u8>)>,
        received: mpsc::UnboundedReceiver<(usize, Vec<u8>)>,
    },
}

pub(super) struct Shared {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    waiting: VecDeque<(usize, Vec<u8>)>,
}

/// Room for the answers to a burst.
const RECEIVE_BUFFER: usize = 8 << 20;

impl Sockets {
    pub(super) fn open(server: SocketAddr) -> io::Result<Self> {
        if !matches!(server.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
            let (arrivals, received) = mpsc::unbounded_channel();
            return Ok(Self::Own { open: BTreeMap::new(), arrivals, received });
        }
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let state = UdpSocketState::new((&socket).into())?;
        // Less than asked for is no fault.
        let _ = state.set_recv_buffer_size((&socket).into(), RECEIVE_BUFFER);
        let buffers = vec![vec![0; usize::from(u16::MAX)]; BATCH_SIZE];
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self::Shared(Shared { socket, state, buffers, waiting: VecDeque::new() }))
    }

    /// Makes the way of a device to the server.
    pub(super) fn connect(&mut self, number: usize, server: SocketAddr) -> io::Result<()> {
        let Self::Own { open, arrivals, .. } = self else { return Ok(()) };
        let any: SocketAddr = if server.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let weak = Arc::downgrade(&socket);
        let arrivals = arrivals.clone();
        open.insert(number, (socket, state));
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            // Ends when the device takes another socket.
            while let Some(socket) = weak.upgrade() {
                let wait = tokio::time::timeout(Duration::from_secs(60), socket.recv(&mut buffer)).await;
                if let Ok(Ok(length)) = wait
                    && arrivals.send((number, buffer.get(..length).unwrap_or_default().to_vec())).is_err()
                {
                    return;
                }
            }
        });
        Ok(())
    }

    pub(super) fn send(&self, number: usize, server: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let (socket, state, src_ip) = match self {
            Self::Shared(Shared { socket, state, .. }) => (socket, state, Some(address_of(number).into())),
            Self::Own { open, .. } => {
                let (socket, state) = open.get(&number).ok_or(io::ErrorKind::NotConnected)?;
                (&**socket, state, None)
            }
        };
        let transmit =
            Transmit { destination: server, ecn: None, contents: datagram, segment_size: None, src_ip };
        // Not by way of the runtime, which does not know of a new socket that it can be written to.
        state.try_send(socket.into(), &transmit)
    }

    /// What arrived for which device, after `limit` at the latest.
    pub(super) async fn receive(&mut self, limit: Duration) -> Vec<(usize, Vec<u8>)> {
        match self {
            Self::Shared(shared) => shared.receive(limit).await,
            Self::Own { received, .. } => {
                let first = tokio::time::timeout(limit, received.recv()).await;
                first.ok().flatten().into_iter().collect()
            }
        }
    }
}

impl Shared {
    /// What arrived, after `limit` at the latest.
    async fn receive(&mut self, limit: Duration) -> Vec<(usize, Vec<u8>)> {
        if self.waiting.is_empty() && tokio::time::timeout(limit, self.socket.readable()).await.is_ok() {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let mut slices: Vec<IoSliceMut<'_>> =
                self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let (socket, state) = (&self.socket, &self.state);
            let received =
                socket.try_io(Interest::READABLE, || state.recv(socket.into(), &mut slices, &mut metas));
            for (meta, buffer) in metas.iter().zip(&self.buffers).take(received.unwrap_or(0)) {
                let Some(IpAddr::V4(to)) = meta.dst_ip else { continue };
                let bytes = buffer.get(..meta.len).unwrap_or_default();
                self.waiting
                    .extend(bytes.chunks(meta.stride.max(1)).map(|one| (number_of(to), one.to_vec())));
            }
        }
        self.waiting.drain(..).collect()
    }
}

/// The address of a device in 127/8, from 127.1.0.0 on.
pub fn address_of(number: usize) -> Ipv4Addr {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    Ipv4Addr::from_bits(0x7f01_0000_u32.wrapping_add(number))
}

fn number_of(address: Ipv4Addr) -> usize {
    address.to_bits().wrapping_sub(0x7f01_0000) as usize
}

/// How many devices have an address in 127/8.
pub const MOST: usize = 0xfe_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_an_address_of_loopback_of_its_own() {
        assert_eq!(address_of(0), Ipv4Addr::new(127, 1, 0, 0));
        assert_eq!(address_of(65_536), Ipv4Addr::new(127, 2, 0, 0));
        for number in [0, 1, 255, 256, 99_999, MOST.saturating_sub(1)] {
            assert!(address_of(number).is_loopback());
            assert_eq!(number_of(address_of(number)), number);
        }
    }
}
