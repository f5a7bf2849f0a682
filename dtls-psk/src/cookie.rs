//! The stateless cookie exchange of a server (RFC 6347 §4.2.1).
//!
//! 1. Client → ClientHello without (or with a stale) cookie. The server answers HelloVerifyRequest and remembers nothing.
//! 2. Client → the same ClientHello with the cookie. Only now may the server allocate.
//!
//! Invariant: a cookie is good for one address and one set of ClientHello parameters, and for two rotations at most.

use core::marker::PhantomData;
use core::time::Duration;

use subtle::ConstantTimeEq as _;
use zeroize::ZeroizeOnDrop;

use crate::Rng;
use crate::alert::{self, Level};
use crate::client_hello::{ClientHello, OfferedHello};
use crate::config::Config;
use crate::crypto::{Crypto, RunningMac as _, RustCrypto};
use crate::error::{Dropped, Reason};
use crate::message::{Fragment, FragmentHeader, MessageType};
use crate::record::{ContentType, HEADER, Header, Version};
use crate::time::Instant;
use crate::wire::{Reader, Writer};

/// Length of the cookies made here.
const COOKIE: usize = 16;

/// The largest reply of [`CookieJar::accept`], in bytes: a HelloVerifyRequest.
pub const REPLY_MAX: usize = HEADER + crate::message::HEADER + 2 + 1 + COOKIE;

/// How long one secret makes cookies; they are accepted for as long again.
const ROTATION: Duration = Duration::from_secs(60);

/// Makes and checks cookies under a rotating secret; one serves any number of clients.
#[derive(ZeroizeOnDrop)]
pub struct CookieJar<C: Crypto = RustCrypto> {
    current: [u8; 32],
    previous: [u8; 32],
    /// What the secrets are derived from, where several jars have the same.
    root: Option<[u8; 32]>,
    #[zeroize(skip)]
    rotated: Instant,
    #[zeroize(skip)]
    crypto: PhantomData<fn() -> C>,
}

impl<C: Crypto> core::fmt::Debug for CookieJar<C> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("CookieJar").finish_non_exhaustive()
    }
}

/// What to do with a datagram that may start a handshake.
#[derive(Debug)]
pub enum Accepted<'d> {
    /// Send the first bytes of `out`, this many: a HelloVerifyRequest. Remember nothing.
    Reply(usize),
    /// The client's address is proven: start a handshake with [`Connection::server`](crate::Connection::server).
    Verified(ClientHello<'d>),
    /// The client's address is proven, but no handshake is possible: send the first `length` bytes of `out`, an alert.
    Refused {
        /// Length of the alert in `out`.
        length: usize,
        /// Why no handshake is possible.
        reason: Reason,
    },
    /// Nothing to do but count it.
    Dropped(Dropped),
}

impl CookieJar {
    /// A jar with fresh secrets.
    pub fn new(now: Instant, rng: &mut Rng<'_>) -> Self {
        Self::with_crypto(now, rng)
    }

    /// One of several jars that accept each other's cookies: all that are made of the same `root`, 32 random bytes, and
    /// are told the time of the same clock.
    #[must_use]
    pub fn shared(now: Instant, root: [u8; 32]) -> Self {
        Self::shared_with_crypto(now, root)
    }
}

impl<C: Crypto> CookieJar<C> {
    /// A jar with fresh secrets, whose [`Crypto`] is the caller's choice.
    pub fn with_crypto(now: Instant, rng: &mut Rng<'_>) -> Self {
        let mut jar =
            Self { current: [0; 32], previous: [0; 32], root: None, rotated: now, crypto: PhantomData };
        rng(&mut jar.current);
        rng(&mut jar.previous);
        jar
    }

    /// As [`shared`](CookieJar::shared), with a [`Crypto`] of the caller's choice.
    #[must_use]
    pub fn shared_with_crypto(now: Instant, root: [u8; 32]) -> Self {
        let mut jar =
            Self { current: [0; 32], previous: [0; 32], root: Some(root), rotated: now, crypto: PhantomData };
        jar.derive(now, &root);
        jar
    }

    /// Judges `datagram`, which came from `address` (any byte string that names the sender) and belongs to no handshake
    /// under way. The reply goes to the front of `out`, which should have [`REPLY_MAX`] bytes.
    ///
    /// The cookie is judged before anything else in the ClientHello, and no reply is longer than the datagram. `config` is
    /// that of the connection which comes of it.
    pub fn accept<'d>(
        &mut self,
        now: Instant,
        config: &Config,
        rng: &mut Rng<'_>,
        address: &[u8],
        datagram: &'d [u8],
        out: &mut [u8],
    ) -> Accepted<'d> {
        self.rotate(now, rng);
        let (record, message_seq, body, hello) = match Self::client_hello(datagram) {
            Ok(parts) => parts,
            Err(dropped) => return Accepted::Dropped(dropped),
        };
        let expected = cookie::<C>(&self.current, address, &hello);
        let is_valid = bool::from(expected.as_slice().ct_eq(hello.cookie))
            || (hello.cookie.len() == COOKIE
                && bool::from(cookie::<C>(&self.previous, address, &hello).as_slice().ct_eq(hello.cookie)));
        if !is_valid {
            let reply = emit_hello_verify_request(out, record.sequence, message_seq, &expected)
                .filter(|length| *length <= datagram.len());
            return reply.map_or(Accepted::Dropped(Dropped::NoCookie), Accepted::Reply);
        }
        match hello.choose(config, record.sequence, message_seq, body) {
            Ok(hello) => Accepted::Verified(hello),
            Err(reason) => {
                Accepted::Refused { length: emit_alert(out, record.sequence, reason).unwrap_or(0), reason }
            }
        }
    }

    /// The ClientHello at the front of `datagram`: whole, in one record (a fragmented one needs memory).
    fn client_hello(datagram: &[u8]) -> Result<(Header, u16, &[u8], OfferedHello<'_>), Dropped> {
        let (record, _, length) = Header::parse(datagram, &[])?;
        let versions = [Version::DTLS_1_0, Version::DTLS_1_2];
        if record.content_type != ContentType::Handshake as u8
            || record.epoch != 0
            || !versions.contains(&record.version)
        {
            return Err(Dropped::Unsupported);
        }
        let mut reader = Reader::new(datagram);
        let fragment = reader
            .take(HEADER)
            .and_then(|_| reader.take(length))
            .and_then(|body| Fragment::parse(&mut Reader::new(body)))
            .ok_or(Dropped::Malformed)?;
        if fragment.header.code != MessageType::ClientHello as u8 {
            return Err(Dropped::Unexpected);
        }
        if !fragment.is_whole() {
            return Err(Dropped::NoCookie);
        }
        let hello = OfferedHello::parse(fragment.bytes).ok_or(Dropped::Malformed)?;
        Ok((record, fragment.header.message_seq, fragment.bytes, hello))
    }

    fn rotate(&mut self, now: Instant, rng: &mut Rng<'_>) {
        let age = now.since(self.rotated);
        if age < ROTATION {
            return;
        }
        if let Some(root) = self.root {
            return self.derive(now, &root);
        }
        self.previous = self.current;
        rng(&mut self.current);
        if age >= ROTATION.saturating_mul(2) {
            rng(&mut self.previous);
        }
        self.rotated = now;
    }

    /// The secrets of this period and of the one before it.
    fn derive(&mut self, now: Instant, root: &[u8; 32]) {
        let length = ROTATION.as_secs().saturating_mul(1000);
        let period = now.as_millis().checked_div(length).unwrap_or(0);
        let secret = |period: u64| {
            let mut mac = C::Hmac::new(root);
            mac.update(&period.to_be_bytes());
            mac.finish()
        };
        self.current = secret(period);
        self.previous = secret(period.wrapping_sub(1));
        self.rotated = Instant::from_millis(period.saturating_mul(length));
    }
}

/// Binds the address and what a client has to repeat (RFC 6347 §4.2.1): version, random, session id, cipher suites and
/// compression methods. Extensions are not among it.
fn cookie<C: Crypto>(secret: &[u8; 32], address: &[u8], hello: &OfferedHello<'_>) -> [u8; COOKIE] {
    let mut mac = C::Hmac::new(secret);
    mac.update(&(address.len() as u64).to_be_bytes());
    mac.update(address);
    mac.update(hello.before_cookie);
    mac.update(hello.behind_cookie);
    let mut cookie = [0; COOKIE];
    cookie.iter_mut().zip(mac.finish()).for_each(|(to, from)| *to = from);
    cookie
}

/// The record repeats the ClientHello's sequence number, and the message its message_seq: a stateless server has no other.
fn emit_hello_verify_request(
    out: &mut [u8],
    sequence: u64,
    message_seq: u16,
    cookie: &[u8; COOKIE],
) -> Option<usize> {
    const BODY: u16 = 3 + COOKIE as u16;
    // RFC 6347 §4.1: the record says 1.2 like every other; there are clients that drop any other record unread.
    let record = Header::new(ContentType::Handshake, 0, sequence);
    let code = MessageType::HelloVerifyRequest as u8;
    let message = FragmentHeader { code, length: BODY.into(), message_seq, offset: 0 };
    let mut writer = Writer::new(out);
    writer.bytes(&record.emit(BODY.saturating_add(crate::message::HEADER as u16)))?;
    writer.bytes(&message.emit(BODY.into()))?;
    // RFC 6347 §4.2.1: server_version is 1.0, whatever version is negotiated.
    writer.u16(Version::DTLS_1_0.0)?;
    writer.vector8(cookie)?;
    Some(writer.len())
}

fn emit_alert(out: &mut [u8], sequence: u64, reason: Reason) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.bytes(&Header::new(ContentType::Alert, 0, sequence).emit(2))?;
    writer.bytes(&alert::emit(Level::Fatal, reason.alert()?))?;
    Some(writer.len())
}
