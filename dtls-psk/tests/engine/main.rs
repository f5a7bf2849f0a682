//! The engine from outside: both roles in memory, in virtual time.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "test"
)]

mod attacks;
mod attacks_on_clients;
mod bytes;
#[cfg(feature = "x509")]
mod certificates;
mod checks;
#[cfg(feature = "ecdhe")]
mod computations;
#[cfg(feature = "connection-id")]
mod connection_id;
mod crypto;
#[cfg(feature = "ecdhe")]
mod ecdhe;
mod flights;
#[cfg(feature = "x25519")]
mod groups;
mod key_change;
mod lent;
#[cfg(feature = "record-size-limit")]
mod limits;
mod model;
mod other_client;
#[cfg(feature = "rpk")]
mod owner;
#[cfg(feature = "rpk")]
mod pair;
#[cfg(feature = "rpk")]
mod proofs;
#[cfg(feature = "rpk")]
mod raw_public_keys;
mod recordings;
#[cfg(feature = "rpk")]
mod refused;
#[cfg(feature = "resumption")]
mod resumption;
#[cfg(all(feature = "resumption", feature = "rpk"))]
mod resumption_certified;
mod saved;
mod simulation;
mod suites;
mod support;
#[cfg(feature = "resumption")]
mod tickets;
mod verification;
