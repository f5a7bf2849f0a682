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
#[cfg(feature = "connection-id")]
mod connection_id;
mod crypto;
#[cfg(feature = "ecdhe")]
mod ecdhe;
mod model;
#[cfg(feature = "resumption")]
mod resumption;
mod saved;
mod simulation;
mod suites;
mod support;
mod verification;
