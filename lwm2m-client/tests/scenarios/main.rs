//! The client against scripted servers, over a network in memory and on a virtual clock.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod alerts;
#[cfg(feature = "alternate-path")]
mod alternate_path;
mod attack_corpus;
mod bootstrap;
mod bytes;
#[cfg(feature = "x509-path")]
mod certificates;
#[cfg(all(feature = "composite", feature = "json"))]
mod composite;
mod management;
#[cfg(feature = "x509-path")]
mod modes;
#[cfg(feature = "offline")]
mod offline;
#[cfg(feature = "oscore")]
mod oscore;
mod power_loss;
mod prover;
#[cfg(feature = "rpk")]
mod raw_public_keys;
mod registration;
mod rekey;
mod reporting;
#[cfg(feature = "send")]
mod send;
mod several_servers;
mod shield;
#[cfg(feature = "suites")]
mod suites;
mod world;
