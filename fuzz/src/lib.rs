//! What the fuzz targets check; each target hands its input to one function of this crate.
//!
//! A target fails by a panic: one inside the crates, or one of the assertions here, which are laws that hold for every
//! input (what was parsed is emitted again byte for byte, a queue drains, a state machine comes to rest).

pub mod blocks;
pub mod certificate_paths;
pub mod certificates;
pub mod coap;
pub mod credentials;
pub mod devices;
pub mod dtls;
pub mod dtls_insider;
pub mod dtls_kept;
mod forgery;
pub mod formats;
pub mod link_format;
pub mod models;
pub mod operations;
pub mod oscore;
pub mod oscore_ends;
mod owner;
pub mod script;
