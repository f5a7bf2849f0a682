//! The security of a device's account, as tests give it to programs of either side.

use std::path::Path;

use lwm2m_server::credentials::pem;

/// A device's credential: what the tests write into the stores of both sides.
#[derive(Debug, Clone, Copy)]
pub struct Psk<'a> {
    /// The PSK identity.
    pub identity: &'a str,
    /// The key in hexadecimal.
    pub key: &'a str,
}

/// A key on P-256 with what is presented for it, in DER.
#[derive(Debug, Clone)]
pub struct Key {
    /// PKCS #8.
    pub private: Vec<u8>,
    /// SubjectPublicKeyInfo.
    pub public: Vec<u8>,
    /// Its certificate, and behind it those above it.
    pub certificates: Vec<Vec<u8>>,
}

impl Key {
    /// Its certificate.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.certificates.first().expect("a key with a certificate")
    }

    /// Writes the private key and the certificates into files of `folder`, and returns their paths.
    ///
    /// # Panics
    /// When that is not possible.
    #[must_use]
    pub fn files(&self, folder: &Path, name: &str) -> [String; 2] {
        let pem: String =
            self.certificates.iter().map(|der| pem("CERTIFICATE", der).as_str().to_owned()).collect();
        [
            file(folder, &format!("{name}.key.der"), &self.private),
            file(folder, &format!("{name}.crt.pem"), pem.as_bytes()),
        ]
    }
}

/// Writes a file and returns its path.
///
/// # Panics
/// When that is not possible.
#[must_use]
pub fn file(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("a temporary file can be written");
    path.display().to_string()
}

/// How a device proves itself, and what it expects of its server: `/0/x/2` to `/0/x/5`, and `/0/x/14` and `/0/x/15`.
#[derive(Debug, Clone, Copy)]
pub enum Security<'a> {
    /// Nothing.
    None,
    /// A pre-shared key.
    Psk(Psk<'a>),
    /// Raw public keys.
    RawPublicKey {
        /// The device's.
        own: &'a Key,
        /// The server's SubjectPublicKeyInfo.
        server: &'a [u8],
    },
    /// Certificates.
    X509 {
        /// The device's.
        own: &'a Key,
        /// That of the server, or of an authority, as `usage` says.
        server: &'a [u8],
        /// The certificate usage.
        usage: u8,
        /// The name that the server is asked for and has to have.
        name: &'a str,
        /// The trust store of the device, one certificate; empty without.
        anchor: &'a [u8],
    },
}

impl<'a> From<Option<Psk<'a>>> for Security<'a> {
    fn from(psk: Option<Psk<'a>>) -> Self {
        psk.map_or(Self::None, Self::Psk)
    }
}

impl Security<'_> {
    /// One word, for the programs on Leshan's libraries.
    pub(crate) fn word(&self) -> String {
        let hex = |parts: &[&[u8]]| parts.iter().map(hex::encode).collect::<Vec<_>>().join(",");
        match self {
            Self::None => "nosec".to_owned(),
            Self::Psk(Psk { identity, key }) => format!("psk,{identity},{key}"),
            Self::RawPublicKey { own, server } => {
                format!("rpk,{}", hex(&[&own.public, &own.private, server]))
            }
            Self::X509 { own, server, usage, name, anchor } => {
                // Leshan takes one certificate in `/0/x/3`.
                let keys = hex(&[own.certificate(), &own.private, server]);
                format!("x509,{keys},{usage},{name},{}", hex::encode(anchor))
            }
        }
    }

    /// The arguments of our client, with keys and certificates in files of `folder`.
    pub(crate) fn arguments(&self, folder: &Path) -> Vec<String> {
        let file = |name, content| file(folder, name, content);
        let pairs: Vec<(&str, String)> = match self {
            Self::None => Vec::new(),
            Self::Psk(Psk { identity, key }) => {
                vec![("--psk-identity", (*identity).to_owned()), ("--psk-key", (*key).to_owned())]
            }
            Self::RawPublicKey { own, server } => vec![
                ("--rpk-private-key", file("device.key.der", &own.private)),
                ("--server-public-key", file("server.pub.der", server)),
            ],
            Self::X509 { own, server, usage, name, anchor } => {
                let [private_key, certificate] = own.files(folder, "device");
                let mut pairs = vec![
                    ("--certificate", certificate),
                    ("--private-key", private_key),
                    ("--trust", file("server.crt.der", server)),
                    ("--certificate-usage", usage.to_string()),
                    ("--server-name", (*name).to_owned()),
                ];
                if !anchor.is_empty() {
                    pairs.push(("--trust-anchor", file("anchor.crt.der", anchor)));
                }
                pairs
            }
        };
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}
