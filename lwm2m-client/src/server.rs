//! One instance of the Server object (`/1`): how the device behaves towards a server.
//!
//! LwM2M Core 1.1.1 appendix E.2. Invariant: a value that was never set is absent, whatever its default.

use crate::account::{Instance, ShortServerId};
use crate::persist::{RecordReader, RecordWriter};

/// `/1/x/7`: the transport bindings as letters, and in LwM2M 1.0 the queue mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    letters: [u8; 7],
    length: u8,
}

impl Binding {
    /// UDP.
    pub const UDP: Binding = Binding { letters: *b"U\0\0\0\0\0\0", length: 1 };
    /// UDP with queue mode as LwM2M 1.0 writes it, `UQ`.
    pub const UDP_QUEUE: Binding = Binding { letters: *b"UQ\0\0\0\0\0", length: 2 };

    /// The letters of the transports.
    const TRANSPORTS: &'static str = "UTSNMH";

    /// Reads the letters U, T, S, N, M, H and Q; each at most once, at least one transport.
    pub fn parse(text: &str) -> Option<Self> {
        let mut binding = Binding { letters: [0; 7], length: u8::try_from(text.len()).ok()? };
        let mut is_transport = false;
        for (letter, place) in text.bytes().zip(&mut binding.letters) {
            *place = letter;
            is_transport |= letter != b'Q';
        }
        let is_known = text.chars().all(|letter| letter == 'Q' || Binding::TRANSPORTS.contains(letter));
        let is_unique = text
            .bytes()
            .enumerate()
            .all(|(at, letter)| text.bytes().skip(at).skip(1).all(|other| other != letter));
        if is_known && is_unique && is_transport { Some(binding) } else { None }
    }

    /// The letters.
    pub fn as_str(&self) -> &str {
        let letters = self.letters.get(..usize::from(self.length)).unwrap_or_default();
        core::str::from_utf8(letters).unwrap_or_default()
    }

    /// Whether the 1.0 text carries the queue mode.
    pub fn is_queue(&self) -> bool {
        self.letters.contains(&b'Q')
    }

    /// The letters without a queue mode at their end.
    pub(crate) fn without_queue_str(&self) -> &str {
        let letters = self.as_str();
        letters.strip_suffix('Q').unwrap_or(letters)
    }
}

impl Default for Binding {
    fn default() -> Self {
        Binding::UDP
    }
}

/// What of `/1` is kept as a number, and the booleans behind, in the order they are kept.
const SETTINGS: [u8; 20] = [0, 1, 2, 3, 5, 10, 11, 12, 13, 14, 17, 18, 19, 20, 22, 6, 15, 16, 21, 23];

/// How many of them are no booleans.
const NUMBERS: usize = 15;

/// The last alert of a server's DTLS, which is not kept over a restart.
pub(crate) const TLS_ALERT: u16 = 11;

/// When a bootstrap server changed the account for the last time, in seconds since 1970; 0 while it is at work on it.
pub(crate) const LAST_BOOTSTRAPPED: u16 = 12;

/// Preferred Transport, kept as the code of its letter.
pub(crate) const PREFERRED_TRANSPORT: u16 = 22;

/// One instance of the Server object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Instance id in `/1`.
    pub instance: u16,
    /// `/1/x/7`.
    pub binding: Option<Binding>,
    /// In the order of [`SETTINGS`].
    values: [u32; NUMBERS],
    /// Bits in the same order: which are set, and of the booleans which are true.
    present: u32,
    truths: u32,
}

impl Instance for Server {
    fn instance(&self) -> u16 {
        self.instance
    }

    fn empty(instance: u16) -> Self {
        Server::empty(instance)
    }
}

impl Server {
    /// A server with this Short Server ID, to which the device registers over UDP for `lifetime` seconds; 0 is a
    /// registration that never expires.
    pub fn new(instance: u16, id: ShortServerId, lifetime: u32) -> Self {
        let mut server = Server::empty(instance);
        server.set(0, Some(u32::from(id.get())));
        server.set(1, Some(lifetime));
        server.binding = Some(Binding::UDP);
        server
    }

    /// An instance in which nothing is set yet.
    pub const fn empty(instance: u16) -> Self {
        Server { instance, binding: None, values: [0; NUMBERS], present: 0, truths: 0 }
    }

    /// A number, a boolean as 0 or 1, a link as its object in the upper 16 bits and its instance below; `None` where nothing is
    /// set, and for any other resource.
    pub fn value(&self, resource: u16) -> Option<u32> {
        let at = place(resource)?;
        let is_set = self.present & 1 << at != 0;
        is_set.then(|| self.values.get(at).copied().unwrap_or(self.truths >> at & 1))
    }

    /// Sets or unsets what [`Server::value`] gives, a boolean by any number but 0; whether `/1` has such a resource here.
    pub fn set(&mut self, resource: u16, value: Option<u32>) -> bool {
        let Some(at) = place(resource) else { return false };
        match self.values.get_mut(at) {
            Some(place) => *place = value.unwrap_or(0),
            None => self.truths = self.truths & !(1 << at) | u32::from(value.is_some_and(|it| it != 0)) << at,
        }
        self.present = self.present & !(1 << at) | u32::from(value.is_some()) << at;
        true
    }

    /// `/1/x/0`.
    pub fn short_server_id(&self) -> Option<ShortServerId> {
        ShortServerId::new(u16::try_from(self.value(0)?).ok()?)
    }

    /// `/1/x/1` in seconds; 0 is a registration that never expires.
    pub fn lifetime(&self) -> Option<u32> {
        self.value(1)
    }

    /// `/1/x/6`, Notification Storing When Disabled or Offline; default true.
    pub fn is_storing(&self) -> bool {
        self.value(6) != Some(0)
    }

    /// `/1/x/5`, for how many seconds the server stays disabled; default 86400.
    pub fn disable_timeout(&self) -> u32 {
        self.value(5).unwrap_or(86_400)
    }

    /// `/1/x/13`.
    pub fn priority(&self) -> Option<u32> {
        self.value(13)
    }

    /// `/1/x/14` in seconds, default 0.
    pub fn initial_delay(&self) -> u32 {
        self.value(14).unwrap_or(0)
    }

    /// `/1/x/22`, the letter of the transport that is to be used where it can be.
    pub fn preferred_transport(&self) -> Option<&'static str> {
        let letter = self.value(PREFERRED_TRANSPORT)?;
        let at = Binding::TRANSPORTS.bytes().position(|known| u32::from(known) == letter)?;
        Binding::TRANSPORTS.get(at..=at)
    }

    /// `/1/x/15`, default false: a failure here stops the servers behind it in the order.
    pub fn is_failure_blocking(&self) -> bool {
        !matches!(self.value(15), None | Some(0))
    }

    /// `/1/x/16`, default true: bootstrap when the registration failed for good.
    pub fn is_bootstrap_on_failure(&self) -> bool {
        self.value(16) != Some(0)
    }

    pub(crate) fn emit(&self, out: &mut RecordWriter<'_>) {
        if let Some(binding) = self.binding {
            out.bytes(7, binding.as_str().as_bytes());
        }
        for resource in SETTINGS {
            out.number(resource, self.value(resource.into()).filter(|_| u16::from(resource) != TLS_ALERT));
        }
    }

    pub(crate) fn parse(instance: u16, bytes: &[u8]) -> Option<Self> {
        let mut server = Server::empty(instance);
        for field in RecordReader::new(bytes) {
            let (tag, value) = field?;
            if tag == 7 {
                server.binding = Some(Binding::parse(core::str::from_utf8(value).ok()?)?);
            } else {
                server.set(tag.into(), Some(RecordReader::number(value)?));
            }
        }
        Some(server)
    }
}

/// Where the setting with this resource id is kept.
fn place(resource: u16) -> Option<usize> {
    SETTINGS.iter().position(|known| u16::from(*known) == resource)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn binding_letters_round_trip() {
        for text in ["U", "T", "UQ", "UTS", "UTSNMH"] {
            assert_eq!(Binding::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(Binding::UDP_QUEUE.without_queue_str(), "U");
        assert!(Binding::UDP_QUEUE.is_queue() && !Binding::UDP.is_queue());
        for bad in ["", "Q", "UU", "X", "u", "UTSNMHQU"] {
            assert_eq!(Binding::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_kept_is_what_was_set_and_survives_storage() {
        let mut server = Server::empty(9);
        for (resource, value) in SETTINGS.iter().zip(1..) {
            assert!(server.set(u16::from(*resource), Some(value)), "{resource}");
        }
        let stored = |server: &Server| {
            let mut buffer = [0; 104];
            let mut out = RecordWriter::new(&mut buffer);
            server.emit(&mut out);
            Server::parse(9, out.finish().unwrap()).unwrap()
        };
        for (at, (resource, value)) in SETTINGS.iter().zip(1..).enumerate() {
            let expected = if at < NUMBERS { value } else { 1 };
            assert_eq!(server.value(u16::from(*resource)), Some(expected), "{resource}");
            let kept = stored(&server).value(u16::from(*resource));
            assert_eq!(kept, Some(expected).filter(|_| u16::from(*resource) != TLS_ALERT), "{resource}");
        }
        for resource in SETTINGS {
            server.set(u16::from(resource), None);
        }
        assert_eq!(server, Server::empty(9));
        // The longest there can be finds room.
        for resource in SETTINGS {
            server.set(u16::from(resource), Some(u32::MAX));
        }
        server.binding = Binding::parse("UTSNMHQ");
        server.set(0, Some(65_534));
        server.set(PREFERRED_TRANSPORT, Some(u32::from(b'N')));
        assert_eq!(server.preferred_transport(), Some("N"));
        let kept = stored(&server);
        server.set(TLS_ALERT, None);
        assert_eq!(kept, server);
    }

    #[test]
    fn a_boolean_is_true_for_every_reader_unless_it_is_0() {
        let mut server = Server::new(9, ShortServerId::FIRST, 86_400);
        for (value, is_true) in [(0, false), (1, true), (2, true), (u32::MAX, true)] {
            for resource in [6, 15, 16] {
                assert!(server.set(resource, Some(value)));
            }
            let read = [server.is_storing(), server.is_failure_blocking(), server.is_bootstrap_on_failure()];
            assert_eq!(read, [is_true; 3], "{value}");
        }
    }
}
