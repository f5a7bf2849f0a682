//! What a server reads of a ClientHello and answers to it (RFC 5246 §7.4.1.2, §7.4.1.3, RFC 5746 §3.6, RFC 7627 §5.1; invariant:
//! only what was offered is chosen, and only what was asked for is answered).

#[cfg(feature = "rpk")]
use crate::certificate::CertificateType;
use crate::config::Config;
use crate::connection_id::PeerId;
#[cfg(feature = "ecdhe")]
use crate::ecdhe::{self, Group};
use crate::error::Reason;
use crate::message::{Extensions, HelloExtensions};
use crate::record::Version;
#[cfg(feature = "rpk")]
use crate::signature;
use crate::suite::{EMPTY_RENEGOTIATION_INFO_SCSV, Suite};
use crate::wire::{Reader, Writer};

/// A parsed ClientHello that carries a valid cookie: what a server's handshake starts from.
#[derive(Clone, Copy)]
pub struct ClientHello<'a> {
    pub(crate) record_sequence: u64,
    pub(crate) message_seq: u16,
    pub(crate) body: &'a [u8],
    pub(crate) random: &'a [u8; 32],
    pub(crate) cookie: &'a [u8],
    pub(crate) suite: Suite,
    pub(crate) extensions: HelloExtensions<'a>,
    /// In which both sides agree, where the suite has an agreement.
    #[cfg(feature = "ecdhe")]
    pub(crate) group: Group,
    /// Of the server and of the client, where the suite has any.
    #[cfg(feature = "rpk")]
    pub(crate) certificate_types: CertificatePair,
}

/// What a server presents, and what it expects.
#[cfg(feature = "rpk")]
pub(crate) type CertificatePair = (CertificateType, CertificateType);

impl ClientHello<'_> {
    /// The cipher suite that was chosen for it.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The name of the server that the client means (RFC 6066 §3), if it gives one: as it was sent.
    #[cfg(feature = "x509")]
    pub fn server_name(&self) -> Option<&[u8]> {
        self.extensions.server_name.filter(|name| !name.is_empty())
    }

    /// Whether the client offers Connection IDs, so that one for records to this server is of use
    /// ([`Config::connection_id`](crate::Config::connection_id)).
    pub fn offers_connection_id(&self) -> bool {
        self.peer_id().is_some()
    }

    /// The Connection ID that the client wants in records to it; one that is too long is none.
    pub(crate) fn peer_id(&self) -> Option<PeerId> {
        self.extensions.connection_id.and_then(|id| PeerId::from_slice(id).ok())
    }
}

impl core::fmt::Debug for ClientHello<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("ClientHello").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// A ClientHello taken apart, before anything in it was judged.
#[derive(Clone, Copy)]
pub(crate) struct OfferedHello<'a> {
    pub(crate) version: Version,
    pub(crate) random: &'a [u8; 32],
    #[cfg(feature = "resumption")]
    pub(crate) session_id: &'a [u8],
    /// Everything in front of the cookie.
    pub(crate) before_cookie: &'a [u8],
    pub(crate) cookie: &'a [u8],
    /// Suites and compression methods as they stand behind the cookie.
    pub(crate) behind_cookie: &'a [u8],
    suites: &'a [u8],
    compressions: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> OfferedHello<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let version = Version(reader.u16()?);
        let random = reader.array()?;
        let session_id = reader.vector8()?;
        let before_cookie = body.get(..body.len().checked_sub(reader.rest().len())?)?;
        let cookie = reader.vector8()?;
        let behind_cookie = reader.rest();
        let suites = reader.vector16()?;
        let compressions = reader.vector8()?;
        let behind_cookie = behind_cookie.get(..behind_cookie.len().checked_sub(reader.rest().len())?)?;
        // RFC 5246 §7.4.1.2: the extensions may be missing altogether.
        let extensions = if reader.is_empty() { &[] } else { reader.vector16()? };
        let well_formed = session_id.len() <= 32
            && !suites.is_empty()
            && suites.len().is_multiple_of(2)
            && !compressions.is_empty()
            && reader.is_empty()
            && Extensions(Reader::new(extensions)).all(|extension| extension.is_some());
        well_formed.then_some(Self {
            version,
            random,
            #[cfg(feature = "resumption")]
            session_id,
            before_cookie,
            cookie,
            behind_cookie,
            suites,
            compressions,
            extensions,
        })
    }

    /// Chooses the parameters of the connection; of the suites the first that is offered and possible.
    /// `body` is the whole ClientHello, and the numbers are those of its record and message.
    pub(crate) fn choose(
        &self,
        config: &Config,
        record_sequence: u64,
        message_seq: u16,
        body: &'a [u8],
    ) -> Result<ClientHello<'a>, Reason> {
        // Both minor numbers count down: 0xfefd is 1.2, 0xfeff is 1.0.
        if self.version.0 >> 8 != 0xfe || self.version.0 > Version::DTLS_1_2.0 {
            return Err(Reason::UnsupportedVersion);
        }
        if !self.compressions.contains(&0) {
            return Err(Reason::ProtocolViolation);
        }
        let mut extensions = HelloExtensions::read(self.extensions)?;
        #[cfg(feature = "ecdhe")]
        let group = ecdhe::choose(
            ecdhe::Preference::of(config).groups(),
            extensions.groups,
            extensions.point_formats,
        );
        #[cfg(feature = "ecdhe")]
        let can_agree = group.is_some();
        #[cfg(not(feature = "ecdhe"))]
        let can_agree = false;
        #[cfg(feature = "rpk")]
        let certificate_types = possible_types(config, &extensions);
        let is_possible = |suite: &Suite| {
            #[cfg(feature = "rpk")]
            if suite.is_ecdsa() && certificate_types.is_none() {
                return false;
            }
            self.offers(suite.code()) && (can_agree || !suite.is_ecdhe())
        };
        let suite =
            config.suites.as_slice().iter().copied().find(is_possible).ok_or(Reason::NoCommonSuite)?;
        #[cfg(feature = "record-size-limit")]
        extensions.fragment_length()?;
        extensions.secure_renegotiation |= self.offers(EMPTY_RENEGOTIATION_INFO_SCSV);
        Ok(ClientHello {
            record_sequence,
            message_seq,
            body,
            random: self.random,
            cookie: self.cookie,
            suite,
            extensions,
            #[cfg(feature = "ecdhe")]
            group: group.unwrap_or(Group::Secp256r1),
            #[cfg(feature = "rpk")]
            certificate_types: certificate_types.unwrap_or((CertificateType::X509, CertificateType::X509)),
        })
    }

    /// Whether a cipher suite is among those offered.
    pub(crate) fn offers(&self, code: u16) -> bool {
        self.suites.chunks_exact(2).any(|suite| suite == code.to_be_bytes())
    }
}

/// The kinds of certificates of both sides, if the client can verify signatures of ours.
#[cfg(feature = "rpk")]
fn possible_types(config: &Config, extensions: &HelloExtensions<'_>) -> Option<CertificatePair> {
    let types = config.certificate_types;
    // Departure: RFC 5246 §7.4.1.4.1 lets who says nothing know only SHA-1; devices that say nothing (old tinydtls) know SHA-256.
    let can_verify = extensions
        .signature_algorithms
        .is_none_or(|known| known.chunks_exact(2).any(|algorithm| algorithm == signature::ALGORITHM));
    // RFC 8422 §5.1: the groups are also those of the keys in certificates.
    (can_verify && ecdhe::knows(extensions.groups, Group::Secp256r1)).then_some(())?;
    Some((
        types.choose(extensions.server_certificate_type_list()?)?,
        types.choose(extensions.client_certificate_type_list()?)?,
    ))
}

/// Writes our ServerHello.
pub(crate) fn emit_server_hello(
    buffer: &mut [u8],
    random: &[u8; 32],
    session_id: &[u8],
    suite: Suite,
    extensions: &HelloExtensions<'_>,
) -> Option<usize> {
    let mut writer = Writer::new(buffer);
    writer.u16(Version::DTLS_1_2.0)?;
    writer.bytes(random)?;
    writer.vector8(session_id)?;
    writer.u16(suite.code())?;
    writer.u8(0)?;
    writer.optional16_of(|writer| extensions.emit(writer))?;
    Some(writer.len())
}
