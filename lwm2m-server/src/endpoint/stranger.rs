//! Remotes without security that are not known: who registers or asks to be bootstrapped is kept, everybody else gets an
//! answer out of nothing but the message.
//!
//! Invariant: no answer to a stranger is longer than what it answers.

use std::ops::Range;

use lwm2m_coap::{Code, Header, Instant, Kind, Message, Rng, Room, Writer, udp};

use crate::credentials::Role;

use super::association::Association;
use super::counters::Counters;
use super::slab::Key;
use super::{Address, Candidates, Endpoint, Listener};

impl Endpoint {
    /// Meets a remote without security: who registers or asks to be bootstrapped is kept, everybody else gets an answer
    /// that needs no memory.
    pub(crate) fn meet(
        &mut self,
        now: Instant,
        local: Listener,
        from: Address,
        datagram: &[u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Result<Key, Option<Range<usize>>> {
        let (header, message) = match udp::parse(datagram) {
            Ok(parsed) => parsed,
            Err(malformed) => {
                Counters::add(&mut self.counters.malformed);
                return Err(malformed.reject.and_then(|id| put(out, &udp::empty(Kind::Reset, id))));
            }
        };
        let mut path = message.options.uri_path();
        let is_first = message.code == Code::POST
            && path.next()
                == Some(match local.role() {
                    Role::Management => b"rd",
                    Role::Bootstrap => b"bs",
                })
            && path.next().is_none();
        if !is_first {
            Counters::add(&mut self.counters.strangers);
            return Err(answer_stranger(header, &message, out));
        }
        let is_full = self.associations.len().saturating_sub(self.registry.len()) >= self.config.unregistered;
        let association = Association::new(now, local, from, None, rng);
        let key = if is_full { None } else { self.associations.insert(association) };
        let Some(key) = key else {
            Counters::add(&mut self.counters.turned_away);
            return Err(None);
        };
        self.by_address.insert((local, from), Candidates { newest: key, older: None });
        Ok(key)
    }
}

fn put(out: &mut [u8], bytes: &[u8]) -> Option<Range<usize>> {
    out.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(0..bytes.len())
}

/// Answers who is not known, out of nothing but the message: 4.04 to a request, so that a device registers again, a
/// Reset to a notification or ping, so that it ends.
fn answer_stranger(header: Header, message: &Message<'_>, out: &mut [u8]) -> Option<Range<usize>> {
    match header.kind {
        Kind::Confirmable if message.code.is_request() => {
            let mut draft = Writer::new(out, Room::NONE, Code::NOT_FOUND).finish().ok()?;
            Some(draft.emit(Header { kind: Kind::Acknowledgement, id: header.id }, message.token))
        }
        Kind::NonConfirmable if message.code.is_request() || message.code == Code::EMPTY => None,
        Kind::Confirmable | Kind::NonConfirmable => put(out, &udp::empty(Kind::Reset, header.id)),
        Kind::Acknowledgement | Kind::Reset => None,
    }
}
