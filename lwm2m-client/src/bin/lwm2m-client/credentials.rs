//! The credentials of the command line: options, files in PEM or DER, and what is wrong with them in words.
//!
//! LwM2M Transport 1.1.1 §5.2.8. Invariant: what is accepted here a handshake can use; private keys are wiped.

use clap::Args;
#[cfg(feature = "rpk")]
use std::path::{Path, PathBuf};

#[cfg(feature = "x509")]
use lwm2m_client::{CERTIFICATE_CAPACITY, Certificate, CertificateUsage, MatchingType};
use lwm2m_client::{Credential, IDENTITY_CAPACITY, PresharedKey, SECRET_CAPACITY};
#[cfg(feature = "rpk")]
use lwm2m_client::{PRIVATE_KEY_CAPACITY, RawPublicKey};
#[cfg(feature = "rpk")]
use rustls_pki_types::pem::PemObject as _;
#[cfg(feature = "rpk")]
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use zeroize::{Zeroize as _, Zeroizing};

/// What the client and its server prove themselves to each other with.
#[derive(Args)]
pub(crate) struct Options {
    /// Identity of the pre-shared key.
    #[arg(long, value_name = "TEXT", requires = "psk_key")]
    psk_identity: Option<String>,
    /// Pre-shared key in hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "psk_identity")]
    psk_key: Option<String>,
    /// Raw public keys: our private key on P-256 (PKCS #8 or SEC 1, PEM or DER), or the pkcs11: URI of one in a token. Our
    /// public key follows from it.
    #[cfg(feature = "rpk")]
    #[arg(long, value_name = "FILE", requires = "server_public_key", conflicts_with = "psk_key")]
    rpk_private_key: Option<PathBuf>,
    /// Raw public keys: the server's public key (SubjectPublicKeyInfo, PEM or DER).
    #[cfg(feature = "rpk")]
    #[arg(long, value_name = "FILE", requires = "rpk_private_key")]
    server_public_key: Option<PathBuf>,
    /// X.509: our certificate on P-256, and behind it those of authorities that the server does not know (PEM or DER).
    #[cfg(feature = "x509")]
    #[arg(long, value_name = "FILE", requires_all = ["private_key", "trust"],
          conflicts_with_all = ["psk_key", "rpk_private_key"])]
    certificate: Option<PathBuf>,
    /// X.509: the private key of our certificate (PKCS #8 or SEC 1, PEM or DER), or the pkcs11: URI of one in a token.
    #[cfg(feature = "x509")]
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// X.509: the certificate that --certificate-usage tells of, or for usage 3 also the server's public key (PEM or DER).
    #[cfg(feature = "x509")]
    #[arg(long, value_name = "FILE", requires = "certificate")]
    trust: Option<PathBuf>,
    /// X.509: what --trust is: 3 the server's certificate itself; 2 the trust anchor of the server's certificate; 1 the server's
    /// certificate, which must lead to a --trust-anchor as well; 0 an authority on the way to a --trust-anchor. Where 0 and 1 come
    /// without --trust-anchor, every certificate in --trust is an anchor, also behind the first.
    #[cfg(feature = "x509")]
    #[arg(long, value_name = "0..3", requires = "certificate", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(0..=3))]
    certificate_usage: u8,
    /// X.509: the server's name, which it is asked for (SNI) and its certificate must have, if it is not the one in --server.
    #[cfg(feature = "x509")]
    #[arg(long, value_name = "NAME", requires = "certificate")]
    server_name: Option<String>,
    /// X.509: certificates of authorities (PEM, or one in DER) for the certificate usages 0 and 1, also of accounts that a
    /// bootstrap server writes. Up to 4 in all. For --certificate-usage 0 and 1 those in --trust if it is left out.
    #[cfg(feature = "x509")]
    #[arg(long, value_name = "FILE")]
    trust_anchor: Vec<PathBuf>,
}

/// What was read.
pub(crate) enum Owned {
    PresharedKey {
        identity: Vec<u8>,
        key: Zeroizing<Vec<u8>>,
    },
    #[cfg(feature = "rpk")]
    RawPublicKey {
        public_key: Vec<u8>,
        /// `None` where a token has it.
        private_key: Option<Zeroizing<Vec<u8>>>,
        server_key: Vec<u8>,
    },
    #[cfg(feature = "x509")]
    Certificate {
        chain: Vec<u8>,
        private_key: Option<Zeroizing<Vec<u8>>>,
        trust: Vec<u8>,
        usage: CertificateUsage,
        server_name: Option<String>,
    },
}

impl Owned {
    /// As an account has it.
    pub(crate) fn credential(&self) -> Credential<'_> {
        match self {
            Owned::PresharedKey { identity, key } => PresharedKey { identity, key }.into(),
            #[cfg(feature = "rpk")]
            Owned::RawPublicKey { public_key, private_key, server_key } => {
                let private_key = private_key.as_ref().map(|key| key.as_slice());
                RawPublicKey { public_key: Some(public_key), private_key, server_key }.into()
            }
            #[cfg(feature = "x509")]
            Owned::Certificate { chain, private_key, trust, usage, server_name } => Certificate {
                chain: Some(chain),
                private_key: private_key.as_ref().map(|key| key.as_slice()),
                server_certificate: trust,
                matching: MatchingType::Exact,
                usage: *usage,
                server_name: server_name.as_deref(),
            }
            .into(),
        }
    }
}

impl Options {
    /// Opens the key in a token, if one is named.
    ///
    /// # Errors
    /// Why it cannot be used.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn token(&self) -> Result<Option<dtls_psk::TokenKey>, String> {
        let uris =
            [&self.rpk_private_key, &self.private_key].into_iter().flatten().filter_map(|key| uri(key));
        uris.map(dtls_psk::TokenKey::open).next().transpose().map_err(|error| error.to_string())
    }

    /// Reads the credential, if one is given; `token` is the public key of the one in a token.
    ///
    /// # Errors
    /// What is wrong, with which option.
    pub(crate) fn read(&self, token: Option<&[u8]>) -> Result<Option<Owned>, String> {
        if let (Some(identity), Some(digits)) = (&self.psk_identity, &self.psk_key) {
            let key = hex::decode(digits).map_err(|error| format!("--psk-key: {error}"))?;
            if identity.is_empty() || identity.len() > IDENTITY_CAPACITY {
                return Err(format!("--psk-identity must have 1 to {IDENTITY_CAPACITY} bytes"));
            }
            if key.is_empty() || key.len() > SECRET_CAPACITY {
                return Err(format!("--psk-key must have 1 to {SECRET_CAPACITY} bytes, two digits each"));
            }
            return Ok(Some(Owned::PresharedKey { identity: identity.clone().into(), key: key.into() }));
        }
        #[cfg(feature = "rpk")]
        if let (Some(own), Some(server)) = (&self.rpk_private_key, &self.server_public_key) {
            let (private_key, public_key) = private_key("--rpk-private-key", own, token)?;
            let server_key = public_key_in("--server-public-key", server)?;
            return Ok(Some(Owned::RawPublicKey { public_key, private_key, server_key }));
        }
        #[cfg(feature = "x509")]
        if let (Some(own), Some(key), Some(trust)) = (&self.certificate, &self.private_key, &self.trust) {
            return self.read_certificate(own, (key, token), trust).map(Some);
        }
        Ok(None)
    }

    #[cfg(feature = "x509")]
    fn read_certificate(
        &self,
        own: &Path,
        (key, token): (&Path, Option<&[u8]>),
        trust: &Path,
    ) -> Result<Owned, String> {
        let usage = CertificateUsage::from_value(self.certificate_usage).unwrap_or_default();
        let number = self.certificate_usage;
        if usage != CertificateUsage::DomainIssuedCertificate && !cfg!(feature = "x509-path") {
            return Err(format!("--certificate-usage {number} needs the feature x509-path"));
        }
        let certificates = certificates("--certificate", own)?;
        let chain = certificates.concat();
        if certificates.len() > 5 || chain.len() > CERTIFICATE_CAPACITY {
            let file = own.display();
            return Err(format!(
                "--certificate {file}: more than 5 certificates or {CERTIFICATE_CAPACITY} bytes in all"
            ));
        }
        let (private_key, public_key) = private_key("--private-key", key, token)?;
        let first = certificates.first().map_or(&[][..], Vec::as_slice);
        if !first.windows(public_key.len()).any(|bytes| bytes == public_key) {
            // What follows in the URI of a token may be its PIN.
            let key = key.to_string_lossy();
            let (key, own) = (key.split('?').next().unwrap_or_default(), own.display());
            return Err(format!("--private-key {key} is not the key of the first certificate in {own}"));
        }
        let trust = match certificates_in("--trust", trust)?.into_iter().next() {
            Some(certificate) if certificate.len() <= CERTIFICATE_CAPACITY => certificate,
            Some(_) => {
                return Err(format!("--trust {}: longer than {CERTIFICATE_CAPACITY} bytes", trust.display()));
            }
            None if number == 3 => public_key_in("--trust", trust)?,
            None => return Err(format!("--trust {}: no certificate in PEM or DER", trust.display())),
        };
        let server_name = self.server_name.clone();
        if server_name.as_ref().is_some_and(|name| !lwm2m_client::is_host_name(name)) {
            return Err("--server-name must be a name of at most 253 bytes, and no address".into());
        }
        Ok(Owned::Certificate { chain, private_key, trust, usage, server_name })
    }

    /// Reads the trust anchors: those of --trust where the usage wants some and no others are given.
    ///
    /// # Errors
    /// What is wrong, with which file.
    #[cfg(feature = "x509")]
    pub(crate) fn trust_anchors(&self) -> Result<Vec<Vec<u8>>, String> {
        let (option, files) = match &self.trust {
            Some(trust) if self.trust_anchor.is_empty() && self.certificate_usage < 2 => {
                ("--trust", core::slice::from_ref(trust))
            }
            _ => ("--trust-anchor", self.trust_anchor.as_slice()),
        };
        let read = |file: &PathBuf| certificates(option, file);
        let anchors: Vec<Vec<u8>> = files.iter().map(read).collect::<Result<Vec<_>, _>>()?.concat();
        if anchors.len() > 4 {
            Err(format!("{option}: more than 4 certificates in all"))
        } else {
            Ok(anchors)
        }
    }
}

#[cfg(feature = "rpk")]
fn content(option: &str, file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let content = std::fs::read(file).map_err(|error| format!("{option} {}: {error}", file.display()))?;
    Ok(content.into())
}

#[cfg(feature = "rpk")]
fn is_pem(content: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    content.windows(BEGIN.len()).any(|bytes| bytes == BEGIN)
}

/// The URI of a key in a token, in place of a file (RFC 7512).
#[cfg(feature = "rpk")]
fn uri(key: &Path) -> Option<&str> {
    key.to_str().filter(|key| key.starts_with("pkcs11:"))
}

/// A private key in DER.
#[cfg(feature = "rpk")]
type Der = Zeroizing<Vec<u8>>;

/// A private key, unless a token has it, and the public key that belongs to it.
#[cfg(feature = "rpk")]
fn private_key(option: &str, file: &Path, token: Option<&[u8]>) -> Result<(Option<Der>, Vec<u8>), String> {
    if uri(file).is_some() {
        let public_key = token.ok_or_else(|| format!("{option}: keys in tokens need the feature pkcs11"))?;
        return Ok((None, public_key.to_vec()));
    }
    let content = content(option, file)?;
    let der = match is_pem(&content) {
        true => PrivateKeyDer::from_pem_slice(&content).map(|mut key| {
            let der = Der::new(key.secret_der().to_vec());
            key.zeroize();
            der
        }),
        false => Ok(content),
    };
    let found = der.ok().filter(|der| der.len() <= PRIVATE_KEY_CAPACITY);
    let found = found.and_then(|der: Der| Some((lwm2m_client::raw_public_key(&der)?.to_vec(), der)));
    let (public_key, der) = found.ok_or_else(|| {
        let file = file.display();
        format!("{option} {file}: no private key on P-256 (PKCS #8 or SEC 1, PEM or DER, not encrypted)")
    })?;
    Ok((Some(der), public_key))
}

/// A SubjectPublicKeyInfo in DER.
#[cfg(feature = "rpk")]
fn public_key_in(option: &str, file: &Path) -> Result<Vec<u8>, String> {
    let content = content(option, file)?;
    let der = match is_pem(&content) {
        true => SubjectPublicKeyInfoDer::from_pem_slice(&content).map(|key| key.to_vec()),
        false => Ok(content.to_vec()),
    };
    der.ok().filter(|der| dtls_psk::point_of(der).is_some()).ok_or_else(|| {
        let file = file.display();
        format!("{option} {file}: no public key on P-256 (SubjectPublicKeyInfo, uncompressed, PEM or DER)")
    })
}

/// The certificates in DER; none where there are none.
#[cfg(feature = "x509")]
fn certificates_in(option: &str, file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let content = content(option, file)?;
    if !is_pem(&content) {
        // A certificate begins with a sequence that is its own, a public key with one that names an algorithm.
        let is_certificate = dtls_psk::point_of(&content).is_none() && content.starts_with(&[0x30]);
        return Ok(if is_certificate { vec![content.to_vec()] } else { Vec::new() });
    }
    let certificates = rustls_pki_types::CertificateDer::pem_slice_iter(&content);
    let certificates = certificates.map(|certificate| certificate.map(|certificate| certificate.to_vec()));
    certificates.collect::<Result<_, _>>().map_err(|error| format!("{option} {}: {error}", file.display()))
}

/// The same with one at least.
#[cfg(feature = "x509")]
fn certificates(option: &str, file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let certificates = certificates_in(option, file)?;
    if certificates.is_empty() {
        return Err(format!("{option} {}: no certificate in PEM or DER", file.display()));
    }
    Ok(certificates)
}
