//! Objects of a simulated device, with values that move.
//!
//! LwM2M Core 1.1.1 appendix E and the OMA registry. Values are functions of the time that the owner passes in; only
//! [`Downloads`] has a clock and a socket. Invariant: what changed by itself is said with its path, so that the owner can tell the client.

mod device;
mod download;
mod firmware;
mod location;
mod objects;
mod temperature;

pub use device::Device;
pub use download::Downloads;
pub use firmware::{Bank, Firmware, Flaw, package};
pub use location::Location;
pub use objects::{Due, Objects};
pub use temperature::Temperature;

/// Seconds since 1970-01-01T00:00:00Z.
pub type UnixTime = i64;
