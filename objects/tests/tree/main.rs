//! Operations on a tree of objects.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "test")]

mod bootstrap;
mod common;
#[cfg(feature = "composite")]
mod composite;
mod device_management;
mod hostile;
mod ready;
