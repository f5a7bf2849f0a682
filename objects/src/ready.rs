//! Objects that are ready to use, and examples of how to make one's own: what the owner sets in their fields is what
//! servers read.
//!
//! Invariant: an object here never does anything by itself; what a server asks for is found in it by its owner.

mod connectivity_statistics;
mod device;
mod firmware_update;
mod held;
mod location;
mod package;
mod sensor;
mod software_management;

pub use connectivity_statistics::ConnectivityStatistics;
pub use device::{Device, DeviceRequest, PowerSource};
pub use firmware_update::{FirmwareRequest, FirmwareState, FirmwareUpdate};
pub use held::{Executed, Held};
pub use location::Location;
pub use package::{Package, PackageFailure};
pub use sensor::Sensor;
pub use software_management::{SoftwareManagement, SoftwareRequest, SoftwareState};
