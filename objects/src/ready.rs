//! Objects that are ready to use, and examples of how to make one's own: what the owner sets in their fields is what
//! servers read.
//!
//! Invariant: an object here never does anything by itself; what a server asks for is found in it by its owner.

mod device;
mod location;
mod temperature;

pub use device::{Device, DeviceRequest, PowerSource};
pub use location::Location;
pub use temperature::Temperature;
