//! OSCORE (RFC 8613): the option, the identifiers and the parameters of a security context.
//!
//! This crate holds the vocabulary that the protection itself will be built on: the OSCORE option codec
//! ([`OscoreOption`]), identifiers whose length the AEAD nonce bounds ([`KeyId`]), the Partial IV and the parameters
//! a security context is derived from ([`Parameters`]). Where protection happens is decided by
//! [`lwm2m_coap::protect::Protect`]: the CoAP peer calls it after a response found its request by token and before block-wise,
//! observe and the application see the message.
//!
//! Nothing here encrypts yet: key derivation, AAD, replay window and sender sequence are missing, and no type of this
//! crate implements [`lwm2m_coap::protect::Protect`].
//!
//! ```
//! use oscore::{KeyId, OscoreOption, PartialIv};
//!
//! let option = OscoreOption::parse(&[0x09, 0x14])?;
//! assert_eq!(option.partial_iv, PartialIv::new(0x14));
//! assert_eq!(option.kid, Some(KeyId::EMPTY));
//! # Ok::<(), oscore::MalformedOption>(())
//! ```
#![no_std]

mod context;
mod option;

pub use context::{AeadAlgorithm, HmacAlgorithm, InvalidParameters, KeyId, MasterSecret, Parameters};
pub use option::{IdContext, MalformedOption, OscoreOption, PartialIv};
