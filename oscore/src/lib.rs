//! OSCORE (RFC 8613): end-to-end protection of CoAP messages, without std and without an allocator.
//!
//! A [`Session`] holds the Security Context of one pair of endpoints, derived from [`Parameters`]. For one call of a
//! [`lwm2m_coap::Peer`] it is wrapped in a [`Protection`], which protects and unprotects in the buffers of the peer: behind the
//! search for duplicates, in front of everything that a message means.
//!
//! Three things are the owner's:
//! - **Sequence numbers.** [`Session::wanted`] says what is to be put into durable storage, ahead of need; [`Session::saved`] is
//!   told when it is there, and after a restart [`Session::restored`] goes on behind it. Before the first one nothing is sent and
//!   no request taken.
//! - **Freshness.** [`Binding::standing`] says whether a request may be carried out. One that is [`Standing::Unproven`] is
//!   answered with [`Session::challenge`]; when it comes back with the right Echo value, [`Session::recover`].
//! - **New keys** (Appendix B.2). [`Session::rederive`] for a client that lost its state, [`Session::renew`] for a server; a
//!   request that is [`Standing::Rederiving`] is answered with 4.01.
//!
//! ```
//! use lwm2m_coap::*;
//! use oscore::*;
//!
//! type Remote = Peer<heapless::Vec<u8, 128>, 1, 4, 0, Binding>;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut rng = |bytes: &mut [u8]| bytes.fill(7);
//! # let now = Instant::from_millis(0);
//! # let (mut client, mut server) = (Remote::new(&KNOWN, TokenPolicy::SECURED, &mut rng), Remote::new(&KNOWN, TokenPolicy::SECURED, &mut rng));
//! # static KNOWN: lwm2m_coap::Parameters =
//! #     lwm2m_coap::Parameters { known: &[OptionNumber::URI_PATH], ..lwm2m_coap::Parameters::DEFAULT };
//! let (one, other) = (KeyId::new(&[0x00]).unwrap(), KeyId::new(&[0x01]).unwrap());
//! let secret = MasterSecret::new(&[0x42; 16]).unwrap();
//! let mut near = Session::new(&oscore::Parameters::new(secret.clone(), one, other)?, [7; 16]);
//! let mut far = Session::new(&oscore::Parameters::new(secret, other, one)?, [8; 16]);
//! let mut observations = heapless::Vec::<Observation, 4>::new();
//! for session in [&mut near, &mut far] {
//!     let wanted = session.wanted().unwrap();
//!     session.saved(&wanted); // once it is in durable storage
//! }
//!
//! let mut buffer = [0; 256];
//! let token = client.next_token(&mut rng, |_| false);
//! let mut writer = Writer::new(&mut buffer, near.room(), Code::GET);
//! writer.split(OptionNumber::URI_PATH, "3/0/9", '/')?;
//! let mut protection = Protection::new(&mut near, &mut observations, None);
//! let (_, range) = client.request(now, Delivery::Confirmable, token, writer, &mut protection, &mut rng)?;
//! let mut datagram = buffer[range].to_vec(); // 4 + 1 bytes of header and token, 5 of outer options, 7 of path and code, tag
//!
//! let mut protection = Protection::new(&mut far, &mut observations, None);
//! let Input::Request { exchange, message } = server.handle(now, &mut datagram, &mut protection) else { panic!() };
//! assert_eq!((exchange.binding().standing(), message.code), (Standing::Fresh, Code::GET));
//! # Ok(())
//! # }
//! ```
#![no_std]

mod aad;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
mod appendix_b2;
mod context;
mod crypto;
mod option;
mod parameters;
mod protection;
mod rederive;
mod replay;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
mod rfc8613;
mod saved;
mod sequence;
mod session;

pub use context::Context;
pub use option::{IdContext, MalformedOption, OscoreOption, PartialIv};
pub use parameters::{AeadAlgorithm, HmacAlgorithm, InvalidParameters, KeyId, MasterSecret, Parameters};
pub use protection::Protection;
pub use rederive::Rederivation;
pub use replay::ReplayWindow;
pub use saved::Saved;
pub use sequence::SenderSequence;
pub use session::{Binding, Observation, Observations, Session, Standing};
