//! Remotes without security that are not known: who registers or asks to be bootstrapped is kept, everybody else gets an
//! answer out of nothing but the message.
//!
//! With [`Config::challenge`](super::Config) a remote proves first that it receives what is sent to its address (RFC 9175
//! §2.4): 4.01 with an Echo value, and nothing is kept of it until that comes back.
//!
//! Invariant: no answer to a stranger has more than three times the bytes of what it answers.

use std::ops::Range;
use std::time::Duration;

use dtls_psk::{Crypto, RunningMac as _, RustCrypto};
use lwm2m_coap::echo::Challenge;
use lwm2m_coap::{Code, Header, Instant, Kind, Message, OptionNumber, Parameters, Rng, Room, Writer, udp};

use crate::credentials::Role;

use super::association::Association;
use super::counters::Counters;
use super::oscore;
use super::slab::Key;
use super::{Address, Candidates, Endpoint, Listener, Transmit};

impl Endpoint {
    /// Takes a message without security, of a remote that is known or not.
    pub(crate) fn handle_plain(
        &mut self,
        now: Instant,
        local: Listener,
        from: Address,
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        if let Some(named) = oscore::named(datagram) {
            return self.handle_named(now, (local, from), named, datagram, rng, out);
        }
        if self.is_elsewhere(local, from, datagram) {
            return None;
        }
        let key = match self.by_address.get(&(local, from)).map(|known| known.newest) {
            Some(known) => known,
            None if self.is_restored_elsewhere(local, from, datagram) => return None,
            None => match self.meet(now, local, from, datagram, rng, out) {
                Ok(key) => key,
                Err(range) => return range.map(|range| Transmit { local, to: from, range }),
            },
        };
        self.handle_of(now, key, (local, from), datagram, rng, out)
    }

    /// Takes a message without DTLS of an association that is at its address.
    pub(crate) fn handle_of(
        &mut self,
        now: Instant,
        key: Key,
        (local, from): (Listener, Address),
        datagram: &mut [u8],
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        if let Some(association) = self.associations.get_mut(key) {
            association.count_received(from, datagram.len());
        }
        let range = self.message(now, key, datagram, rng, out);
        self.mark_ready(key);
        self.transmit(key, local, from, range?)
    }

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
            return Err(answer_stranger(header, &message, datagram.len(), out));
        }
        if self.config.challenge {
            // RFC 9175 §2.4: who did not show the value that was sent to its address may not be there.
            let challenge = challenge(self.shared.cookie_root(rng), from);
            if !challenge.accepts(now, message.options.echo()) {
                Counters::add(&mut self.counters.challenged);
                return Err(challenge_stranger(now, &challenge, header, &message, out));
            }
        }
        let is_full = self.strangers >= self.config.unregistered;
        let association = Association::new(now, local, from, None, rng);
        let key = if is_full { None } else { self.associations.insert(association) };
        let Some(key) = key else {
            Counters::add(&mut self.counters.turned_away);
            return Err(None);
        };
        self.strangers = self.strangers.saturating_add(1);
        self.by_address.insert((local, from), Candidates { newest: key, older: None });
        Ok(key)
    }
}

/// Asks a stranger to show a value. A Non-confirmable request is left in silence: its sender will try again.
fn challenge_stranger(
    now: Instant,
    challenge: &Challenge<impl Fn(&[u8; 4]) -> [u8; 8]>,
    header: Header,
    message: &Message<'_>,
    out: &mut [u8],
) -> Option<Range<usize>> {
    if header.kind != Kind::Confirmable {
        return None;
    }
    let mut writer = Writer::new(out, Room::NONE, Code::UNAUTHORIZED);
    challenge.refuse(now, &mut writer).ok()?;
    let header = Header { kind: Kind::Acknowledgement, id: header.id };
    Some(writer.finish().ok()?.emit(header, message.token))
}

/// For how long a value is good: as long as the request may be sent again (MAX_TRANSMIT_SPAN).
const ECHO_WINDOW: Duration = Duration::from_secs(45);

/// The values for one address.
pub(crate) fn challenge(key: &[u8; 32], from: Address) -> Challenge<impl Fn(&[u8; 4]) -> [u8; 8]> {
    Challenge::new(ECHO_WINDOW, move |time: &[u8; 4]| {
        // The same secret makes the cookies of handshakes, of other words.
        let mut mac = <RustCrypto as Crypto>::Hmac::new(key);
        mac.update(b"echo");
        mac.update(time);
        mac.update(from.bytes());
        let [a, b, c, d, e, f, g, h, ..] = mac.finish();
        [a, b, c, d, e, f, g, h]
    })
}

fn put(out: &mut [u8], bytes: &[u8]) -> Option<Range<usize>> {
    out.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(0..bytes.len())
}

/// Answers a message of so many bytes from who is not known, out of nothing but the message: 4.04 to a request, so that a device registers again, a
/// Reset to a notification or ping, so that it ends.
fn answer_stranger(
    header: Header,
    message: &Message<'_>,
    length: usize,
    out: &mut [u8],
) -> Option<Range<usize>> {
    match header.kind {
        Kind::Confirmable if message.code.is_request() => {
            // RFC 7252 §5.4.1, §5.8, §5.10.2 count for strangers too.
            let refused = message.options.first_unknown_critical(Parameters::DEFAULT.known);
            let code = match refused {
                Some(OptionNumber::PROXY_URI | OptionNumber::PROXY_SCHEME) => Code::PROXYING_NOT_SUPPORTED,
                Some(_) => Code::BAD_OPTION,
                None if message.code > Code::DELETE => Code::METHOD_NOT_ALLOWED,
                None => Code::NOT_FOUND,
            };
            let mut writer = Writer::new(out, Room::NONE, code);
            if let (Code::BAD_OPTION, Some(number)) = (code, refused) {
                let text = number.diagnostic();
                // Header, token, marker and text: an answer is no longer than what came.
                let answer = [udp::HEADER_LENGTH, message.token.bytes().len(), 1, text.len()];
                if answer.into_iter().fold(0, usize::saturating_add) <= length {
                    writer.payload(&text).ok()?;
                }
            }
            let header = Header { kind: Kind::Acknowledgement, id: header.id };
            Some(writer.finish().ok()?.emit(header, message.token))
        }
        Kind::NonConfirmable if message.code.is_request() || message.code == Code::EMPTY => None,
        Kind::Confirmable | Kind::NonConfirmable => put(out, &udp::empty(Kind::Reset, header.id)),
        Kind::Acknowledgement | Kind::Reset => None,
    }
}
