//! What is kept of an OSCORE credential (RFC 8613 §3.2; object `/21`), seen from the server: what its context is derived from, and
//! whether its keys may be derived anew (Appendix B.2).
//!
//! Invariants: a context can be derived from it; Master Secret and Master Salt are wiped when dropped and never shown.

use core::fmt;

use oscore::{AeadAlgorithm, HmacAlgorithm, IdContext, InvalidParameters, KeyId, MasterSecret, Parameters};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

/// What a context is found by: the Recipient ID of the server, which is the kid in requests of the device, and the ID Context.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "ContextRecord", try_from = "ContextRecord")]
pub struct ContextId {
    /// The Sender ID of the device, `/21/x/1`.
    pub kid: KeyId,
    /// The ID Context, `/21/x/6`, if there is one.
    pub id_context: Option<Box<[u8]>>,
}

/// As records have it, in hex digits.
#[derive(Serialize, Deserialize)]
struct ContextRecord {
    kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id_context: Option<String>,
}

impl From<ContextId> for ContextRecord {
    fn from(id: ContextId) -> Self {
        Self { kid: hex::encode(id.kid.bytes()), id_context: id.id_context.map(hex::encode) }
    }
}

impl TryFrom<ContextRecord> for ContextId {
    type Error = &'static str;

    fn try_from(record: ContextRecord) -> Result<Self, Self::Error> {
        let bytes = |text: String| hex::decode(text).map_err(|_| "a context id that is not hex digits");
        let kid = KeyId::new(&bytes(record.kid)?).ok_or("a kid of more than 7 bytes")?;
        let id_context = record.id_context.map(bytes).transpose()?.map(Vec::into_boxed_slice);
        Ok(Self { kid, id_context })
    }
}

/// In hex digits: anything may be in it.
impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oscore kid 0x{}", hex::encode(self.kid.bytes()))?;
        match &self.id_context {
            Some(id) => write!(f, " in the id context 0x{}", hex::encode(id)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContextId({self})")
    }
}

/// Whether the keys of a context may be replaced by Appendix B.2 of RFC 8613.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rederivation {
    /// Not at all: a device that asks for it is refused.
    Never,
    /// When the device begins it.
    #[default]
    Offered,
    /// Before anything of a device is carried out that this server has not heard since it started.
    Required,
}

/// The parameters of a context, seen from the server, as they are given and kept.
#[derive(Clone)]
pub struct OscoreKey {
    parameters: Parameters,
    master_secret: Zeroizing<Vec<u8>>,
    master_salt: Zeroizing<Vec<u8>>,
    /// As it was given: there are two notations.
    hmac: i32,
    rederivation: Rederivation,
}

/// What an [`OscoreKey`] is made of; as JSON with bytes in hex digits.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OscoreParts {
    /// Master Secret, `/21/x/0`: 16 to 64 bytes.
    #[serde(deserialize_with = "secret_of_hex")]
    pub master_secret: Zeroizing<Vec<u8>>,
    /// Master Salt, `/21/x/5`: at most 32 bytes; empty for none.
    #[serde(default, deserialize_with = "secret_of_hex")]
    pub master_salt: Zeroizing<Vec<u8>>,
    /// The Sender ID of the server: `/21/x/2`, the Recipient ID of the device.
    #[serde(deserialize_with = "of_hex")]
    pub sender_id: Vec<u8>,
    /// The Recipient ID of the server: `/21/x/1`, the Sender ID of the device.
    #[serde(deserialize_with = "of_hex")]
    pub recipient_id: Vec<u8>,
    /// ID Context, `/21/x/6`.
    #[serde(default, deserialize_with = "some_of_hex")]
    pub id_context: Option<Vec<u8>>,
    /// COSE number of the AEAD algorithm, `/21/x/3`; AES-CCM-16-64-128 without.
    pub aead: Option<i32>,
    /// COSE number of the HMAC algorithm, or of HKDF with it, `/21/x/4`; HMAC with SHA-256 without.
    pub hmac: Option<i32>,
    /// Whether keys may be derived anew.
    #[serde(default)]
    pub rederivation: Rederivation,
}

fn secret_of_hex<'de, D: Deserializer<'de>>(source: D) -> Result<Zeroizing<Vec<u8>>, D::Error> {
    let text = Zeroizing::<String>::deserialize(source)?;
    hex::decode(text.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| D::Error::custom("a value that is not hex digits"))
}

fn of_hex<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<u8>, D::Error> {
    secret_of_hex(source).map(|bytes| bytes.to_vec())
}

fn some_of_hex<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Vec<u8>>, D::Error> {
    of_hex(source).map(Some)
}

/// Shortest Master Secret in bytes that is accepted.
const MIN_SECRET: usize = 16;
/// The longest ID Context that Appendix B.2 leaves room for.
const REDERIVABLE: usize = 24;

impl OscoreKey {
    /// Puts together what belongs together.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn new(parts: OscoreParts) -> Result<Self, &'static str> {
        if parts.master_secret.len() < MIN_SECRET {
            return Err("master_secret: 16 to 64 bytes");
        }
        let secret = MasterSecret::new(&parts.master_secret).ok_or("master_secret: 16 to 64 bytes")?;
        let id = |bytes: &[u8]| KeyId::new(bytes).ok_or("sender_id, recipient_id: at most 7 bytes");
        let (aead, hmac) = (parts.aead.unwrap_or(AEAD), parts.hmac.unwrap_or(HMAC));
        let aead = AeadAlgorithm::from_cose(aead).ok_or("aead: no COSE number that this server knows")?;
        let algorithm =
            HmacAlgorithm::from_cose(hmac).ok_or("hmac: no COSE number that this server knows")?;
        let made = Parameters::new(secret, id(&parts.sender_id)?, id(&parts.recipient_id)?)
            .and_then(|made| made.with_algorithms(aead, algorithm))
            .and_then(|made| made.with_salt(&parts.master_salt))
            .and_then(|made| match &parts.id_context {
                Some(id) => made.with_id_context(id),
                None => Ok(made),
            });
        let parameters = made.map_err(|invalid| match invalid {
            InvalidParameters::EqualIds => {
                "sender_id and recipient_id are equal; each end needs one of its own"
            }
            InvalidParameters::IdTooLong => "sender_id, recipient_id: longer than the AEAD algorithm allows",
            InvalidParameters::SaltTooLong => "master_salt: at most 32 bytes",
            _ => "id_context: at most 40 bytes",
        })?;
        let has_room = parts.id_context.as_ref().is_none_or(|id| id.len() <= REDERIVABLE);
        if !has_room && parts.rederivation != Rederivation::Never {
            return Err("id_context: at most 24 bytes where keys may be derived anew (rederivation)");
        }
        let OscoreParts { master_secret, master_salt, rederivation, .. } = parts;
        Ok(Self { parameters, master_secret, master_salt, hmac, rederivation })
    }

    /// Draws a Master Secret of 16 bytes and a Master Salt of 8, for a device with this Sender ID; the server's is 0x00.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate(recipient_id: &[u8]) -> Result<Option<Self>, getrandom::Error> {
        let (mut master_secret, mut master_salt) = (Zeroizing::new(vec![0; 16]), Zeroizing::new(vec![0; 8]));
        getrandom::fill(&mut master_secret)?;
        getrandom::fill(&mut master_salt)?;
        let (sender_id, recipient_id) = (SERVER.to_vec(), recipient_id.to_vec());
        let parts =
            OscoreParts { master_secret, master_salt, sender_id, recipient_id, ..OscoreParts::default() };
        Ok(Self::new(parts).ok())
    }

    /// What a context is derived from.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Whether its keys may be derived anew.
    #[must_use]
    pub fn rederivation(&self) -> Rederivation {
        self.rederivation
    }

    /// The Master Secret: for the device, or for the one answer that shows it.
    #[must_use]
    pub fn master_secret(&self) -> &[u8] {
        &self.master_secret
    }

    /// The Master Salt; empty when there is none.
    #[must_use]
    pub fn master_salt(&self) -> &[u8] {
        &self.master_salt
    }

    /// COSE number of the AEAD algorithm.
    #[must_use]
    pub fn aead(&self) -> i32 {
        self.parameters.aead().cose().into()
    }

    /// COSE number of the HMAC algorithm, in the notation that it was given in.
    #[must_use]
    pub fn hmac(&self) -> i32 {
        self.hmac
    }

    /// What it is known by.
    #[must_use]
    pub fn context_id(&self) -> ContextId {
        ContextId {
            kid: self.parameters.recipient_id(),
            id_context: self.parameters.id_context().map(Into::into),
        }
    }

    /// As it is sealed: policy, algorithms, and the other parts, each with its length in one byte.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let policy = match self.rederivation {
            Rederivation::Never => 0,
            Rederivation::Offered => 1,
            Rederivation::Required => 2,
        };
        let parameters = &self.parameters;
        let (sender_id, recipient_id) = (parameters.sender_id(), parameters.recipient_id());
        let parts: [&[u8]; 5] = [
            &self.master_secret,
            &self.master_salt,
            sender_id.bytes(),
            recipient_id.bytes(),
            parameters.id_context().unwrap_or_default(),
        ];
        // All the room at once: what grows leaves a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST));
        bytes.extend_from_slice(&[policy, parameters.id_context().is_some().into()]);
        bytes.extend_from_slice(&self.aead().to_be_bytes());
        bytes.extend_from_slice(&self.hmac.to_be_bytes());
        for part in parts {
            // At most 64.
            bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// What was sealed; `None` if it is nothing that [`to_bytes`](Self::to_bytes) wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([policy, has_context], rest) = bytes.split_first_chunk()?;
        let (aead, rest) = rest.split_first_chunk()?;
        let (hmac, mut rest) = rest.split_first_chunk()?;
        let mut next = || {
            let (length, behind) = rest.split_first()?;
            let (part, behind) = behind.split_at_checked(usize::from(*length))?;
            rest = behind;
            Some(part.to_vec())
        };
        let parts = OscoreParts {
            master_secret: Zeroizing::new(next()?),
            master_salt: Zeroizing::new(next()?),
            sender_id: next()?,
            recipient_id: next()?,
            id_context: Some(next()?).filter(|_| *has_context == 1),
            aead: Some(i32::from_be_bytes(*aead)),
            hmac: Some(i32::from_be_bytes(*hmac)),
            rederivation: match policy {
                0 => Rederivation::Never,
                1 => Rederivation::Offered,
                _ => Rederivation::Required,
            },
        };
        rest.is_empty().then(|| Self::new(parts).ok())?
    }
}

/// As they are sealed.
impl PartialEq for OscoreKey {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for OscoreKey {}

impl fmt::Debug for OscoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OscoreKey({}, masked)", self.context_id())
    }
}

/// The Sender ID of the server where none is given.
const SERVER: [u8; 1] = [0];

/// AES-CCM-16-64-128 and HMAC with SHA-256.
pub(super) const AEAD: i32 = 10;
pub(super) const HMAC: i32 = 5;

/// Policy, algorithms, and five parts with their lengths.
const LONGEST: usize = 2
    + 8
    + 5
    + MasterSecret::MAX_LENGTH
    + Parameters::SALT_LENGTH
    + 2 * KeyId::MAX_LENGTH
    + Parameters::ID_CONTEXT_LENGTH;

/// How a request names its context.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Named {
    /// The kid.
    pub kid: KeyId,
    /// The kid context as it came, if one did.
    pub kid_context: Option<Box<[u8]>>,
}

impl Named {
    /// As the OSCORE option of a request has it.
    #[must_use]
    pub fn new(kid: KeyId, kid_context: Option<IdContext<'_>>) -> Self {
        Self { kid, kid_context: kid_context.map(|id| id.bytes().into()) }
    }

    /// The contexts that are meant where keys were not derived anew: some implementations wrap the ID Context always.
    #[must_use]
    pub fn context_ids(&self) -> [Option<ContextId>; 2] {
        let of = |id_context| ContextId { kid: self.kid, id_context };
        let wrapped = self.kid_context.as_deref().and_then(unwrap);
        [Some(of(self.kid_context.clone())), wrapped.map(|id| of(Some(id.into())))]
    }
}

/// As the id of a context is shown.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ContextId { kid: self.kid, id_context: self.kid_context.clone() }.fmt(f)
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Named({self})")
    }
}

/// The bytes of a CBOR byte string that is all of `wrapped`.
fn unwrap(wrapped: &[u8]) -> Option<&[u8]> {
    let (length, bytes) = match wrapped {
        [head @ 0x40..=0x57, bytes @ ..] => (head & 0x1f, bytes),
        [0x58, length, bytes @ ..] => (*length, bytes),
        _ => return None,
    };
    (bytes.len() == usize::from(length)).then_some(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    fn parts() -> OscoreParts {
        OscoreParts {
            master_secret: Zeroizing::new(vec![7; 16]),
            recipient_id: vec![1],
            ..OscoreParts::default()
        }
    }

    #[test]
    fn what_is_sealed_comes_back_and_nothing_that_is_cut_short_does() {
        for parts in [
            parts(),
            OscoreParts { id_context: Some(Vec::new()), ..parts() },
            OscoreParts {
                master_salt: Zeroizing::new(vec![1, 2]),
                sender_id: vec![2; 7],
                id_context: Some(vec![9; 40]),
                aead: Some(11),
                hmac: Some(-11),
                rederivation: Rederivation::Never,
                ..parts()
            },
        ] {
            let key = OscoreKey::new(parts).unwrap();
            let bytes = key.to_bytes();
            assert!(bytes.len() <= LONGEST);
            assert_eq!(OscoreKey::from_bytes(&bytes), Some(key));
            for length in 0..bytes.len() {
                assert_eq!(OscoreKey::from_bytes(bytes.get(..length).unwrap()), None, "{length}");
            }
        }
    }

    #[test]
    fn what_no_context_can_be_derived_from_is_refused_with_the_reason() {
        for (parts, what) in [
            (OscoreParts { master_secret: Zeroizing::new(vec![7; 15]), ..parts() }, "master_secret"),
            (OscoreParts { master_secret: Zeroizing::new(vec![7; 65]), ..parts() }, "master_secret"),
            (OscoreParts { recipient_id: Vec::new(), ..parts() }, "equal"),
            (OscoreParts { recipient_id: vec![1; 8], ..parts() }, "at most 7"),
            (OscoreParts { recipient_id: vec![1; 2], aead: Some(12), ..parts() }, "AEAD"),
            (OscoreParts { aead: Some(99), ..parts() }, "aead"),
            (OscoreParts { hmac: Some(99), ..parts() }, "hmac"),
            (OscoreParts { master_salt: Zeroizing::new(vec![0; 33]), ..parts() }, "master_salt"),
            (OscoreParts { id_context: Some(vec![0; 25]), ..parts() }, "rederivation"),
        ] {
            let refused = OscoreKey::new(parts).unwrap_err();
            assert!(refused.contains(what), "{refused}");
        }
    }

    #[test]
    fn a_context_id_survives_its_record_and_a_key_is_not_shown() {
        for id_context in [None, Some(Box::from([])), Some(Box::from([0, 255]))] {
            let id = ContextId { kid: KeyId::new(&[1]).unwrap(), id_context };
            let record = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<ContextId>(&record).unwrap(), id, "{record}");
        }
        let shown = format!("{:?}", OscoreKey::new(parts()).unwrap());
        assert!(shown.contains("masked") && !shown.contains('7'), "{shown}");
    }
}
