//! The messages that carry certificates and ask for them (RFC 5246 §7.4.2, §7.4.4, RFC 7250 §3, RFC 8422 §5.3; invariant:
//! whoever speaks has the kind of certificate that was agreed for its side).

#[cfg(feature = "x509")]
use crate::public_key;
use crate::signature;
use crate::wire::{Reader, Writer};

/// What a side proves itself with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CertificateType {
    /// A chain of certificates.
    X509,
    /// A bare SubjectPublicKeyInfo, which the peer knows already.
    RawPublicKey,
}

impl CertificateType {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::X509 => 0,
            Self::RawPublicKey => 2,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::X509),
            2 => Some(Self::RawPublicKey),
            _ => None,
        }
    }
}

/// What a client proves itself with, and expects of its server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClientCertificate<'a> {
    /// Both sides have raw public keys.
    RawPublicKey,
    /// Both sides have certificates.
    #[cfg(feature = "x509")]
    X509 {
        /// The name of the server for server_name (RFC 6066 §3), 1 to 253 bytes; `None` sends none, as it must be where only
        /// an address is known.
        server_name: Option<&'a str>,
    },
    /// Nobody.
    #[cfg(not(feature = "x509"))]
    #[doc(hidden)]
    Never(core::convert::Infallible, core::marker::PhantomData<&'a ()>),
}

/// The kinds of certificates that a server has and takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CertificateTypes {
    /// [`CertificateType::RawPublicKey`].
    pub raw_public_key: bool,
    /// [`CertificateType::X509`].
    #[cfg(feature = "x509")]
    pub x509: bool,
}

impl CertificateTypes {
    /// None: no suite with signatures is possible.
    pub const NONE: Self = Self {
        raw_public_key: false,
        #[cfg(feature = "x509")]
        x509: false,
    };

    /// Raw public keys alone.
    pub const RAW_PUBLIC_KEY: Self = Self {
        raw_public_key: true,
        #[cfg(feature = "x509")]
        x509: false,
    };

    #[cfg(feature = "server")]
    const fn has(self, certificate_type: CertificateType) -> bool {
        match certificate_type {
            CertificateType::RawPublicKey => self.raw_public_key,
            #[cfg(feature = "x509")]
            CertificateType::X509 => self.x509,
            #[cfg(not(feature = "x509"))]
            CertificateType::X509 => false,
        }
    }

    /// Of what a client offers in client_certificate_type or server_certificate_type the first that is possible (RFC 7250
    /// §4.2). Who leaves the extension out has certificates.
    #[cfg(feature = "server")]
    pub(crate) fn choose(self, offered: Option<&[u8]>) -> Option<CertificateType> {
        let offered = offered.unwrap_or(&[0]).iter();
        offered.filter_map(|code| CertificateType::from_code(*code)).find(|offered| self.has(*offered))
    }
}

/// What the peer presents: not yet proven to be its own.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PeerCertificate<'a> {
    /// A SubjectPublicKeyInfo in DER.
    RawPublicKey(&'a [u8]),
    /// Certificates, the peer's own first.
    #[cfg(feature = "x509")]
    X509(Chain<'a>),
}

impl<'a> PeerCertificate<'a> {
    /// Reads the body of a Certificate; the inner `None` is one without certificates.
    pub(crate) fn parse(certificate_type: CertificateType, body: &'a [u8]) -> Option<Option<Self>> {
        let mut reader = Reader::new(body);
        let content = reader.vector24().filter(|_| reader.is_empty())?;
        if content.is_empty() {
            return Some(None);
        }
        match certificate_type {
            CertificateType::RawPublicKey => Some(Some(Self::RawPublicKey(content))),
            #[cfg(feature = "x509")]
            CertificateType::X509 => {
                let mut reader = Reader::new(content);
                while !reader.is_empty() {
                    reader.vector24()?;
                }
                Some(Some(Self::X509(Chain(Reader::new(content)))))
            }
            #[cfg(not(feature = "x509"))]
            CertificateType::X509 => None,
        }
    }

    /// The SubjectPublicKeyInfo that the peer has to prove; `None` where a certificate has none.
    pub fn public_key(&self) -> Option<&'a [u8]> {
        match self {
            Self::RawPublicKey(key) => Some(key),
            #[cfg(feature = "x509")]
            Self::X509(chain) => public_key::public_key_of(chain.clone().next()?),
        }
    }
}

/// Certificates in DER, each signed by the next one, or so they say.
#[cfg(feature = "x509")]
#[derive(Clone)]
pub struct Chain<'a>(Reader<'a>);

#[cfg(feature = "x509")]
impl<'a> Iterator for Chain<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.0.vector24()
    }
}

#[cfg(feature = "x509")]
impl PartialEq for Chain<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.rest() == other.0.rest()
    }
}

#[cfg(feature = "x509")]
impl Eq for Chain<'_> {}

#[cfg(feature = "x509")]
impl core::fmt::Debug for Chain<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_list().entries(self.clone().map(<[u8]>::len)).finish()
    }
}

/// Writes the body of a Certificate. A raw public key is one, whatever else is in `certificates`.
pub(crate) fn emit(
    out: &mut [u8],
    certificate_type: CertificateType,
    certificates: &[&[u8]],
) -> Option<usize> {
    let mut writer = Writer::new(out);
    match certificate_type {
        CertificateType::RawPublicKey => writer.vector24(certificates.first()?)?,
        CertificateType::X509 => writer.vector24_of(|writer| {
            certificates.iter().try_for_each(|certificate| writer.vector24(certificate))
        })?,
    }
    Some(writer.len())
}

/// ecdsa_sign among the types of a CertificateRequest.
const ECDSA_SIGN: u8 = 64;

/// Writes the body of a CertificateRequest: any authority will do.
#[cfg(feature = "server")]
pub(crate) fn emit_request(out: &mut [u8]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.vector8(&[ECDSA_SIGN])?;
    writer.vector16(&signature::ALGORITHM)?;
    writer.vector16(&[])?;
    Some(writer.len())
}

/// Whether the server that sent this CertificateRequest takes our kind of signature. The authorities are not looked at: there
/// is one certificate to present, or none.
pub(crate) fn is_request_for_us(body: &[u8]) -> Option<bool> {
    let mut reader = Reader::new(body);
    let (types, algorithms, _) = (reader.vector8()?, reader.vector16()?, reader.vector16()?);
    (reader.is_empty() && algorithms.len().is_multiple_of(2)).then(|| {
        types.contains(&ECDSA_SIGN)
            && algorithms.chunks_exact(2).any(|algorithm| algorithm == signature::ALGORITHM)
    })
}
