//! LwM2M server and bootstrap server: devices bootstrapped, registered, managed, re-keyed and revoked.
//!
//! - [`endpoint`]: the protocol as a state machine without sockets or clocks, for simulations and other transports.
//! - [`driver`]: the only owner of sockets; runs an endpoint under tokio.
//! - [`access`]: who may do what over HTTP: tokens, roles, scopes.
//! - [`credentials`]: who may connect, and the life cycle of every credential; [`store`] keeps it.
//! - [`keys`]: what the server proves itself with where devices have raw public keys or certificates.
//! - [`models`]: definitions of objects, built in, from files, or added.
//! - [`observations`]: observations that outlive registrations and restarts.
//! - [`campaigns`]: what is done with many devices, step by step, and groups of them.
//! - [`profiles`]: what bootstraps write beside, and otherwise than, what the server is configured to.
//! - [`queue`]: requests that wait, on disk, for devices that sleep.
//! - [`api`] and [`config`]: REST and the configuration file of the `lwm2m-server` binary.

pub mod access;
pub mod api;
pub mod campaigns;
pub mod config;
pub mod credentials;
mod crypto;
pub mod driver;
pub mod endpoint;
mod event;
pub mod keys;
pub mod models;
pub mod observations;
mod operation;
pub mod profiles;
pub mod queue;
mod server;
pub mod store;
mod value;

pub use crypto::Provider;
pub use endpoint::{Direction, Packet, Payload};
pub use event::Event;
pub use lwm2m_objects::Path;
pub use operation::{
    Answer, Content, Discovered, Link, ObservationId, Operation, Report, Reported, RequestError, WriteMode,
};
pub use server::{DEFAULT_TIMEOUT, Device, Server};
pub use value::Value;
