//! The messages of devices as support wants to see them: CoAP as it was before encryption and after decryption, without
//! secrets.
//!
//! Invariants: nothing is copied while nobody looks; what a bootstrap writes, keys among it, is never shown.

use std::collections::VecDeque;
use std::sync::Arc;

use lwm2m_coap::{Instant, udp};

use crate::credentials::Role;

use super::Endpoint;
use super::association::{Association, Who};

/// One CoAP message on its way to or from a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packet {
    /// Milliseconds since 1970-01-01 UTC.
    pub at: u64,
    /// Endpoint client name; `None` before it is proven or, without security, admitted.
    pub endpoint: Option<Arc<str>>,
    /// Which of the two servers it talks to.
    pub role: Role,
    /// Whether it goes through a DTLS session.
    pub secure: bool,
    /// Address and port of the device, as text.
    pub address: String,
    /// Which way it goes.
    pub direction: Direction,
    /// The message with its header (RFC 7252 §3); its payload is cut off when `withheld` is not 0.
    pub bytes: Arc<[u8]>,
    /// The bytes of the payload that are not shown, because a bootstrap writes keys.
    pub withheld: usize,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the device to this server.
    FromDevice,
    /// From this server to the device.
    ToDevice,
}

/// What was traced and not fetched yet; `None` when nobody looks.
#[derive(Debug, Default)]
pub(crate) struct Trace(Option<VecDeque<Packet>>);

impl Trace {
    pub(crate) fn record(
        &mut self,
        now: Instant,
        association: &Association,
        direction: Direction,
        message: Option<&[u8]>,
    ) {
        let (Some(packets), Some(message)) = (&mut self.0, message) else { return };
        let role = association.local.role();
        let is_secret = role == Role::Bootstrap && direction == Direction::ToDevice;
        let payload = udp::parse(message).map_or(0, |(_, message)| message.payload.len());
        let withheld = if is_secret { payload } else { 0 };
        // The marker in front of the payload goes with it.
        let shown = if withheld > 0 {
            message.len().saturating_sub(withheld).saturating_sub(1)
        } else {
            message.len()
        };
        packets.push_back(Packet {
            at: now.as_millis(),
            endpoint: association.who.as_ref().map(Who::endpoint).cloned(),
            role,
            secure: association.local.is_secure(),
            address: association.address.to_string(),
            direction,
            bytes: message.get(..shown).unwrap_or_default().into(),
            withheld,
        });
    }
}

impl Endpoint {
    /// Turns the trace on or off; what was not fetched is gone when it is turned off.
    pub fn set_trace(&mut self, is_on: bool) {
        match is_on {
            true => drop(self.trace.0.get_or_insert_default()),
            false => self.trace.0 = None,
        }
    }

    /// The next message of the trace. Call until `None`.
    pub fn poll_packet(&mut self) -> Option<Packet> {
        self.trace.0.as_mut()?.pop_front()
    }
}
