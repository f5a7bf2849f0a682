//! Objects that are ready to use, and examples of how to make one's own: what the owner sets in their fields is what
//! servers read.
//!
//! Invariant: an object here never does anything by itself; what a server asks for is found in it by its owner.

mod connectivity_statistics;
mod device;
mod firmware_update;
mod held;
mod location;
mod sensor;

pub use connectivity_statistics::ConnectivityStatistics;
pub use device::{Device, DeviceRequest, PowerSource};
pub use firmware_update::{FirmwareFailure, FirmwareRequest, FirmwareState, FirmwareUpdate, Package};
pub use held::{Executed, Held};
pub use location::Location;
pub use sensor::Sensor;
