//! A DTLS 1.2 engine with pre-shared keys, and by features with raw public keys and certificates (RFC 6347, RFC 4279, RFC 6655,
//! RFC 7627, RFC 7250, RFC 7251): client and server, without `std`, without an allocator, without sockets, clocks or threads.
//!
//! The cipher suite is TLS_PSK_WITH_AES_128_CCM_8, which LwM2M demands, unless [`Config::suites`] names others. Both sides offer the extended master secret and
//! do without it if the peer does. [`Config::connection_id`] turns Connection IDs (RFC 9146) on, with the messages of the
//! return routability check (RFC 9853). The primitives come from [`Crypto`], which a direct user of this crate may implement.
//!
//! # Driving a connection
//!
//! Call one `handle_*` (or [`Connection::provide`] or [`Connection::close`]); then drain [`Connection::poll_transmit`]
//! until it is empty; then sleep until [`Connection::poll_timeout`] or input. No other rule.
//!
//! A client:
//!
//! ```
//! use dtls_psk::{Config, Connection, Datagram, Handshake, HEADROOM, Input, Instant, Psk, TAILROOM};
//!
//! # fn rng(bytes: &mut [u8]) { bytes.fill(7) }
//! # fn receive() -> Option<Vec<u8>> { None }
//! # fn send(_: &[u8]) {}
//! # let now = || Instant::from_millis(0);
//! let psk = Psk { identity: b"urn:dev:1", key: &[1; 16] };
//! let mut connection =
//!     Connection::<512>::client(now(), &Config::DEFAULT, psk, &mut rng, Handshake::new())?;
//! let mut out = [0; 1152];
//! loop {
//!     while let Some(length) = connection.poll_transmit(now(), &mut out) {
//!         send(&out[..length]);
//!     }
//!     # if connection.poll_timeout().is_some() { break }
//!     // Waits until `connection.poll_timeout()` at most.
//!     let Some(mut bytes) = receive() else {
//!         if let Some(Input::Closed(reason)) = connection.handle_timeout(now()) {
//!             eprintln!("{reason}");
//!             break;
//!         }
//!         continue;
//!     };
//!     let mut datagram = Datagram::new(&mut bytes);
//!     while let Some(input) = connection.handle(now(), &mut datagram) {
//!         match input {
//!             Input::Established { .. } => {
//!                 let mut record = [0; HEADROOM + 5 + TAILROOM];
//!                 record[HEADROOM..][..5].copy_from_slice(b"hello");
//!                 let sealed = connection.seal(&mut record, HEADROOM..HEADROOM + 5)?;
//!                 send(&record[sealed]);
//!             }
//!             Input::Application(bytes) => println!("{bytes:?}"),
//!             _ => {}
//!         }
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A server asks [`choose`] which connection of the sender's address a datagram belongs to, gives what belongs to none to
//! the [`CookieJar`], and makes a [`Connection`] only of what comes back verified:
//!
//! ```
//! use dtls_psk::{Accepted, Answer, Choice, Config, Connection, CookieJar, Datagram, Handshake, Input, Instant, Operation};
//!
//! # fn rng(bytes: &mut [u8]) { bytes.fill(7) }
//! # fn send(_: &[u8]) {}
//! # let now = || Instant::from_millis(0);
//! # let (address, mut received) = ([127, 0, 0, 1, 22, 51], [0_u8; 75]);
//! # let (mut out, mut scratch) = ([0; 1152], [0; 1152]);
//! type Peer = Connection<1024, Box<Handshake<1024>>>;
//! let mut jar = CookieJar::new(now(), &mut rng);
//! // Of one address, the newest first: at most one that is established, and one under way.
//! let mut peers: Vec<Peer> = Vec::new();
//!
//! match dtls_psk::choose(peers.iter(), &received, &mut scratch) {
//!     Choice::New => match jar.accept(now(), &Config::DEFAULT, &mut rng, &address, &received, &mut out) {
//!         Accepted::Reply(length) | Accepted::Refused { length, .. } => send(&out[..length]),
//!         Accepted::Verified(hello) => {
//!             let handshake = Box::new(Handshake::new());
//!             peers.insert(0, Peer::server(now(), &Config::DEFAULT, &hello, &mut rng, handshake)?);
//!         }
//!         Accepted::Dropped(_) => {}
//!     },
//!     Choice::Candidate(index) => {
//!         let peer = &mut peers[index];
//!         let mut datagram = Datagram::new(&mut received);
//!         while let Some(input) = peer.handle(now(), &mut datagram) {
//!             // `Established`: now this one replaces the older ones.
//!         }
//!         if let Some(pending) = peer.poll_pending() {
//!             let (id, Operation::LookUpPsk { identity }) = (pending.id, pending.operation) else { unreachable!() };
//!             let answer = if identity == b"urn:dev:1" { Answer::Psk { key: &[1; 16] } } else { Answer::Unknown };
//!             // May be called much later as well; may return `Established`.
//!             let input = peer.provide(now(), id, answer);
//!         }
//!     }
//!     Choice::Dropped(_) => {}
//! }
//! for peer in &mut peers {
//!     while let Some(length) = peer.poll_transmit(now(), &mut out) {
//!         send(&out[..length]);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Raw public keys and certificates
//!
//! With the features `rpk` and `x509` both sides may prove themselves by a signature on P-256 instead. What takes long, or needs a
//! key that this crate never sees, is an [`Operation`] that waits for an answer on either side: to present a certificate, to
//! sign, to judge what the peer presents, and to compute on curves (`Computation::run`, which may go to another thread).
//! `Connection::certificate_client` begins such a handshake; a server says by `Config::certificate_types` what it has.
//!
//! # Features
//!
//! - `server` (default): the server's role. Without it the engine is a client only, and smaller.
//! - `ccm16`, `gcm`: the suites TLS_PSK_WITH_AES_128_CCM and TLS_PSK_WITH_AES_128_GCM_SHA256.
//! - `ecdhe`: forward secrecy, by the suites TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256 and, with `ccm16`,
//!   TLS_ECDHE_PSK_WITH_AES_128_CCM_SHA256. A server has its share and the agreement computed by its owner (`Computation`).
//! - `x25519`: the group x25519 beside secp256r1 for it, which stays the first choice unless [`Config`] says else.
//! - `cbc`: TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256, and TLS_PSK_WITH_AES_128_CBC_SHA256 in a server, for peers that know
//!   nothing newer. Every association has room for its keys then.
//! - `rpk`: raw public keys (RFC 7250) with the suite TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8, and by `ccm16`, `gcm` and `cbc` (in a
//!   server) with others of its kind. `x509`: the same with certificates, server names (RFC 6066), and trust in a
//!   server's certificate that is known beforehand. `x509-path`: the other usages that LwM2M has, by path validation.
//! - `pkcs11`: keys of raw public keys and certificates in PKCS#11 tokens, by `TokenKey`; it needs `std`.
//! - `sha512`: servers' certificates of which only a SHA-384 or a SHA-512 is known.
//! - `connection-id`: room for Connection IDs in every association.
//! - `record-size-limit`: the extensions record_size_limit and max_fragment_length, by which a client with little memory
//!   bounds the records to it ([`Config::record_size_limit`]), and a server that keeps to them.
//! - `resumption`: `Connection::take_session` has what of a full handshake is kept, and `Connection::resuming_client`,
//!   `Connection::resuming_certificate_client` and `Connection::resuming_server` take it up again; with `server` also session
//!   tickets, by `TicketKey` and `Connection::provide_with_ticket`.
//!
//! # What an attacker cannot do
//!
//! Nobody makes a server allocate anything from a forged address (stateless cookie), ends an established connection without
//! its keys, or learns whether an identity exists (the handshake goes on with a random key). Records that do not
//! authenticate are dropped and counted.
//!
//! A handshake that is under way is in the clear and can be spoilt by who guesses its addresses and its moment, as in every
//! DTLS 1.2 stack; alerts at least are believed only after a retransmission time-out without progress. A spoilt handshake
//! ends at its deadline with a [`Reason`], and never in an association.
#![no_std]
#![cfg_attr(
    not(feature = "server"),
    expect(dead_code, reason = "parts that a server shares with the client")
)]

#[cfg(any(test, feature = "pkcs11"))]
extern crate std;

mod alert;
mod association;
#[cfg(feature = "rpk")]
mod authentication;
#[cfg(feature = "server")]
mod candidates;
#[cfg(feature = "cbc")]
mod cbc;
#[cfg(feature = "rpk")]
mod certificate;
mod client;
#[cfg(feature = "server")]
mod client_hello;
#[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
mod computation;
mod config;
mod connection;
mod connection_id;
#[cfg(feature = "server")]
mod cookie;
mod crypto;
#[cfg(feature = "ecdhe")]
mod ecdhe;
mod error;
mod event;
mod flight;
mod handshake;
mod keys;
#[cfg(feature = "record-size-limit")]
mod limits;
mod message;
mod path;
#[cfg(any(feature = "server", feature = "rpk"))]
mod pending;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod prf;
mod psk;
#[cfg(feature = "rpk")]
mod public_key;
mod reassembly;
mod receive;
mod record;
mod replay;
#[cfg(feature = "resumption")]
mod resume;
#[cfg(feature = "server")]
mod saved;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "rpk")]
mod signature;
mod suite;
#[cfg(all(feature = "resumption", feature = "server"))]
mod ticket;
mod time;
#[cfg(feature = "x509")]
mod trust;
mod wire;

pub use alert::Alert;
pub use association::Role;
#[cfg(feature = "x509")]
pub use authentication::SERVER_NAME_MAX;
#[cfg(feature = "server")]
pub use candidates::{Choice, choose};
#[cfg(feature = "x509")]
pub use certificate::Chain;
#[cfg(feature = "rpk")]
pub use certificate::{CertificateType, CertificateTypes, ClientCertificate, PeerCertificate};
#[cfg(feature = "server")]
pub use client_hello::ClientHello;
#[cfg(any(feature = "rpk", all(feature = "server", feature = "ecdhe")))]
pub use computation::{Computation, Computed, Purpose};
pub use config::Config;
pub use connection::Connection;
pub use connection_id::ConnectionId;
#[cfg(feature = "server")]
pub use cookie::{Accepted, CookieJar, REPLY_MAX};
#[cfg(feature = "ecdhe")]
pub use crypto::POINT;
pub use crypto::{Aead, Crypto, RunningHash, RunningMac, RustCrypto};
#[cfg(feature = "ecdhe")]
pub use ecdhe::Group;
#[cfg(feature = "rpk")]
pub use error::Refusal;
pub use error::{Counters, Dropped, OpenError, ProvideError, Reason, SealError, SetUpError, Side};
pub use event::{Answer, Input, Operation, Pending, PendingId};
pub use handshake::{Handshake, NoHandshake};
pub use keys::{HEADROOM, TAILROOM};
#[cfg(feature = "pkcs11")]
pub use pkcs11::{TokenError, TokenKey};
pub use psk::{IDENTITY_MAX, PSK_MAX, Psk};
#[cfg(feature = "rpk")]
pub use public_key::{RAW_PUBLIC_KEY, point_of, raw_public_key};
pub use record::Datagram;
#[cfg(all(feature = "resumption", feature = "server"))]
pub use resume::Resumption;
#[cfg(feature = "resumption")]
pub use resume::{SESSION_ID_MAX, Session};
#[cfg(feature = "server")]
pub use saved::SAVED_MAX;
#[cfg(feature = "rpk")]
pub use signature::SIGNATURE;
pub use suite::{Suite, Suites};
#[cfg(all(feature = "resumption", feature = "server"))]
pub use ticket::{TICKET_CONTEXT_MAX, TICKET_MAX, Ticket, TicketKey};
pub use time::Instant;
#[cfg(feature = "x509-path")]
pub use trust::EcdsaP256Sha256;
#[cfg(feature = "x509")]
pub use trust::{Association as CertificateAssociation, CertificateUsage, PATH_MAX, ServerTrust};

/// A source of cryptographically secure random bytes: it fills the slice.
pub type Rng<'a> = dyn FnMut(&mut [u8]) + 'a;

/// The smallest buffer that [`Connection::poll_transmit`] can work with, in bytes: 64, or more where a byte of a message does
/// not fit into a record of that size with the longest Connection ID and the longest code of this build.
pub const DATAGRAM_MIN: usize = {
    let least = HEADROOM + message::HEADER + 1 + TAILROOM;
    if least > 64 { least } else { 64 }
};
