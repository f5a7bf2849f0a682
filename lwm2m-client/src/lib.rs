//! LwM2M client for devices: no `std`, no allocator, no sockets, clocks or threads.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

#[cfg(all(test, not(feature = "std")))]
extern crate std;

mod access;
mod account;
mod assembly;
mod bootstrap;
mod client;
mod core_objects;
mod error;
mod event;
mod identity;
mod lifecycle;
mod management;
mod persist;
mod registration;
mod reply;
mod reporting;
mod requests;
#[cfg(feature = "std")]
mod runner;
mod security;
mod session;
#[cfg(feature = "std")]
pub mod simulated;
mod storage;
#[cfg(feature = "std")]
mod store;

pub use account::{Binding, SecurityMode, Server, ServerAddress, ShortServerId};
pub use client::{Client, Config};
pub use error::{Inconsistent, Reason, StoreError};
pub use event::{AccountId, Counters, Event, Notice, Role};
pub use identity::{FactoryAccount, IDENTITY_CAPACITY, PresharedKey, SECRET_CAPACITY, provision};
pub use persist::{Action, Key, RECORD_CAPACITY, StoreId, Stored};
#[cfg(feature = "std")]
pub use runner::{Runner, StdClient};
#[cfg(feature = "std")]
pub use store::Store;

pub use lwm2m_coap::{Instant, Rng};
pub use lwm2m_objects as objects;
