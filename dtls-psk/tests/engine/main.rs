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
mod checks;
#[cfg(feature = "connection-id")]
mod connection_id;
mod crypto;
#[cfg(feature = "ecdhe")]
mod ecdhe;
mod flights;
#[cfg(feature = "record-size-limit")]
mod limits;
mod model;
mod other_client;
mod recordings;
#[cfg(feature = "resumption")]
mod resumption;
mod saved;
mod simulation;
mod suites;
mod support;
#[cfg(feature = "resumption")]
mod tickets;
mod verification;
