//! An LwM2M client for devices: no `std`, no allocator, no sockets, clocks, threads or storage of its own.
//!
//! The client bootstraps, registers with one or several servers, lets them read, write, execute, create, delete, discover
//! and observe, and keeps the accounts that a bootstrap server gives it. It speaks LwM2M 1.1 (and announces 1.0 when asked
//! to) over CoAP, plain or in DTLS 1.2 with pre-shared keys, raw public keys or certificates, in the formats text, opaque, CBOR,
//! TLV, SenML CBOR and SenML JSON.
//!
//! # The driving contract
//!
//! Call one of the `handle_*` methods; then drain [`Client::poll_transmit`] and [`Client::poll_event`] until both are
//! empty; then sleep until [`Client::poll_timeout`] or input. No other rule.
//!
//! ```
//! use lwm2m_client::objects::{At, Object, ObjectDef, Value, defs, path};
//! use lwm2m_client::{
//!     Client, Config, Event, FactoryAccount, Instant, Server, ShortServerId, StoreError, provision,
//! };
//!
//! struct Temperature { celsius: f64 }
//!
//! impl Object for Temperature {
//!     fn definition(&self) -> &'static ObjectDef {
//!         &defs::TEMPERATURE
//!     }
//!
//!     fn read(&self, at: At) -> Option<Value<'_>> {
//!         (at.resource == 5700).then_some(Value::Float(self.celsius))
//!     }
//! }
//! # struct Device;
//! # impl Object for Device {
//! #     fn definition(&self) -> &'static ObjectDef { &defs::DEVICE }
//! #     fn read(&self, at: At) -> Option<Value<'_>> {
//! #         match (at.resource, at.resource_instance) {
//! #             (11, 0) => Some(Value::Integer(0)),
//! #             (16, _) => Some(Value::String("U")),
//! #             _ => None,
//! #         }
//! #     }
//! # }
//! # let mut turns = 0;
//! # let mut sent = 0;
//! # let now = || Instant::from_millis(0);
//! # let mut rng = |bytes: &mut [u8]| bytes.fill(7);
//!
//! // The account that the device left the factory with, in a storage that keeps the contract of `Action`.
//! # let mut storage = lwm2m_client::Store::in_memory();
//! let server = Server::new(0, ShortServerId::FIRST, 86400);
//! let account = FactoryAccount::server(0, "coap://lwm2m.example", server, None);
//! provision(&[account], &mut |action| storage.apply(action))?;
//!
//! let mut device = Device;
//! let mut temperature = Temperature { celsius: 21.5 };
//! // 2 accounts, 4 observations, 4 paths with attributes, no Access Control, bodies of up to 512 bytes.
//! let mut client: Client<'_, 2, 4, 4, 0, 512> = Client::new(Config::new("urn:dev:os:32473-1"));
//! let mut buffer = [0; 576];
//! loop {
//!     // Waits until `client.poll_timeout()` at most: `Some((account, datagram))` or `None`.
//!     let input: Option<(lwm2m_client::AccountId, &mut [u8])> = None;
//!     client.changed(path!("/3303/0/5700")); // when the sensor has a new value
//!     let mut objects: [&mut dyn Object; 2] = [&mut device, &mut temperature]; // borrowed for one turn
//!     match input {
//!         Some((account, datagram)) => client.handle(now(), account, datagram, &mut objects, &mut rng),
//!         None => client.handle_timeout(now(), &mut objects, &mut rng),
//!     }
//!     loop {
//!         while let Some((account, datagram)) = client.poll_transmit(now(), &mut buffer, &mut objects, &mut rng) {
//!             // Send it on the socket of this account.
//!             # sent += 1;
//!             # let _ = (account, datagram);
//!         }
//!         match client.poll_event() {
//!             Some(Event::Persist { id, action }) => {
//!                 let result = storage.apply(&action);
//!                 client.persisted(id, result);
//!             }
//!             Some(Event::Load { id, key }) => client.loaded(id, storage.load(key)),
//!             Some(Event::Resolve { account, host, port }) => {
//!                 // Look the name up, open a socket for this account; at once or later:
//!                 client.resolved(account, true);
//!             }
//!             Some(Event::Closed { .. }) => { /* close the socket of this account */ }
//!             Some(Event::Notice(notice)) => { /* Registered, Bootstrapped, RolledBack … */ }
//!             Some(_) => {}
//!             None => break,
//!         }
//!     }
//!     # turns += 1;
//!     # if turns == 20 { break }
//! }
//! # assert_eq!(sent, 1, "Register is on its way");
//! # Ok::<(), StoreError>(())
//! ```
//!
//! # What survives
//!
//! Accounts, and what servers changed in them, survive a power loss at any moment: [`Action`] has the contract of the
//! storage. After a bootstrap the new accounts are tried by full handshakes and registrations; only then the previous ones
//! are dropped, and when a server cannot be reached with its new account, all previous ones come back. Observations and
//! notification attributes do not survive: servers set them again after a registration.
//!
//! # Sizes
//!
//! All sizes are const generics of [`Client`]. One handshake runs at a time, so that its memory is there once. The bound
//! of 6 KiB for a device with two accounts and four observations is checked when the crate is built for a 32-bit target.
//!
//! # Features
//!
//! `psk` adds DTLS with pre-shared keys, `rpk` with raw public keys, `x509` and `x509-path` with certificates, with the default primitives of `dtls-psk`: the choice of others is for direct users of that crate so far.
//! `oscore` adds object security (RFC 8613), alone or inside DTLS; its owner keeps one kind of record more: what `Action::Put` brings is
//! to be there before it is answered, and `Event::Recall` asks for it.
//! `std` adds the [`Runner`] with UDP sockets, the [`Store`] of files, the objects of a simulated device
//! ([`simulated`]) and the command line `lwm2m-client`.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

mod access;
mod account;
mod address;
#[cfg(feature = "alternate-path")]
mod alternate_path;
mod assembly;
mod attached;
mod bootstrap;
mod client;
#[cfg(feature = "composite")]
mod composite;
mod core_objects;
#[cfg(feature = "rpk")]
mod der;
mod error;
mod event;
mod identity;
mod lifecycle;
mod management;
#[cfg(feature = "oscore")]
mod object_security;
mod observation;
#[cfg(feature = "offline")]
mod offline;
#[cfg(feature = "oscore")]
mod oscore_object;
#[cfg(feature = "rpk")]
mod pending;
mod persist;
mod registration;
mod reply;
mod reporting;
mod requests;
#[cfg(feature = "resumption")]
mod resumption;
#[cfg(feature = "std")]
mod runner;
mod security;
#[cfg(feature = "send")]
mod send;
mod server;
mod session;
#[cfg(feature = "std")]
pub mod simulated;
mod staging;
mod storage;
#[cfg(feature = "std")]
mod store;

pub use account::{SecurityMode, ShortServerId};
pub use address::ServerAddress;
#[cfg(feature = "alternate-path")]
pub use alternate_path::AlternatePath;
pub use bootstrap::BootstrapFormat;
#[cfg(feature = "std")]
pub use client::Tap;
pub use client::{Client, Config};
#[cfg(feature = "rpk")]
pub use der::raw_public_key;
pub use error::{Inconsistent, Reason, StoreError};
pub use event::{AccountId, Counters, Event, Notice, Role};
#[cfg(feature = "oscore")]
pub use identity::SecurityContext;
#[cfg(feature = "x509")]
pub use identity::{CERTIFICATE_CAPACITY, Certificate};
pub use identity::{Credential, FactoryAccount, IDENTITY_CAPACITY, PresharedKey, SECRET_CAPACITY, provision};
#[cfg(feature = "rpk")]
pub use identity::{PRIVATE_KEY_CAPACITY, RawPublicKey};
#[cfg(feature = "oscore")]
pub use object_security::Rederive;
#[cfg(feature = "offline")]
pub use offline::{KEPT_MAX, NotYet, kept_for};
pub use persist::{Action, Key, RECORD_CAPACITY, StoreId, Stored};
#[cfg(feature = "oscore")]
pub use persist::{STATE_CAPACITY, StateName};
pub use registration::MAX_TRANSMIT_WAIT;
#[cfg(all(feature = "std", feature = "rpk"))]
pub use runner::Signer;
#[cfg(feature = "std")]
pub use runner::{Runner, StdClient};
#[cfg(feature = "send")]
pub use send::NotSent;
pub use server::{Binding, Server};
#[cfg(feature = "std")]
pub use store::Store;

#[cfg(feature = "x509")]
pub use account::MatchingType;
#[cfg(feature = "x509")]
pub use address::is_host_name;
#[cfg(feature = "x509")]
pub use dtls_psk::CertificateUsage;
#[cfg(feature = "psk")]
pub use dtls_psk::{Reason as HandshakeReason, Suite};
#[cfg(feature = "rpk")]
pub use dtls_psk::{Refusal, SIGNATURE as SIGNATURE_LENGTH};
#[cfg(feature = "rpk")]
pub use event::SignId;
pub use lwm2m_coap::{Instant, Rng};
pub use lwm2m_objects as objects;
