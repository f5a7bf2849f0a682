//! The listening socket of the HTTP interface.
//!
//! Invariants: it is on loopback unless a public address was allowed in so many words; a bounded number of connections is
//! open at a time, and none that sends no request keeps its place for long.

use core::future::Future;
use core::pin::pin;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::guard::Origin;

/// Connections that may be open at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;

/// How long the head of a request may take to arrive, idle connections included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Wait after a connection could not be accepted: for want of descriptors, mostly.
const PAUSE: Duration = Duration::from_secs(1);

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

/// Serves connections until `stop` completes, then lets the requests under way end.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let under_way = GracefulShutdown::new();
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            let permit = Arc::clone(&free).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream, address) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => match accepted {
                (permit, Ok((stream, address))) => (permit, stream, address),
                (_, Err(error)) => {
                    tracing::warn!(%error, "HTTP: a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let routed = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Origin(address.ip()));
            routed.call(request)
        });
        let connection = under_way.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A connection that broke off concerns its client only.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    under_way.shutdown().await;
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Time passes as soon as everybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_whole_head_makes_room_for_others() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Router::new(), core::future::pending()));
        let mut clients = Vec::new();
        for start in ["", "GET / HTTP/1.1\r\nhost:", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(start.as_bytes()).await.unwrap();
            clients.push(client);
        }
        for mut client in clients {
            let mut answer = Vec::new();
            let ended =
                tokio::time::timeout(PATIENCE.saturating_mul(2), client.read_to_end(&mut answer)).await;
            assert!(ended.is_ok(), "the connection is closed: {}", String::from_utf8_lossy(&answer));
        }
    }
}
