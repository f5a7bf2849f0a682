//! The listening socket of the HTTP interface.
//!
//! Invariants: it is on loopback unless a public address was allowed in so many words; a bounded number of connections is
//! open at a time.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that may be open at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;

/// Why the interface was not opened.
#[derive(Debug)]
pub enum ListenError {
    /// The address is reachable from elsewhere and nobody said that this is wanted.
    Public(SocketAddr),
    /// What the operating system said.
    Io(SocketAddr, io::Error),
}

impl core::fmt::Display for ListenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Public(address) => write!(
                f,
                "HTTP on {address} can be reached from elsewhere and has no TLS: listen on 127.0.0.1 behind a proxy, or \
                 allow it by --http-public"
            ),
            Self::Io(address, error) => {
                write!(f, "cannot listen on {address} (HTTP): {error}; choose another address by --http")
            }
        }
    }
}

impl core::error::Error for ListenError {}

/// Opens the listening socket: on loopback, unless a public address is allowed.
///
/// # Errors
/// A public address that is not allowed, or one that cannot be bound.
pub async fn listen(address: SocketAddr, allow_public: bool) -> Result<TcpListener, ListenError> {
    if !address.ip().is_loopback() && !allow_public {
        return Err(ListenError::Public(address));
    }
    TcpListener::bind(address).await.map_err(|error| ListenError::Io(address, error))
}

/// A listener that accepts while connections are free.
pub(super) struct Limited {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl Limited {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let (stream, from) = Listener::accept(&mut self.listener).await;
        (Connection { stream, _permit: permit }, from)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that makes room for another when it ends.
pub(super) struct Connection {
    stream: TcpStream,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
