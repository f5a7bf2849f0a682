//! What a scripted server proves itself with and holds against devices, and credentials as they are written.

use std::collections::BTreeMap;

#[cfg(feature = "x509")]
use dtls_psk::CertificateType;
use dtls_psk::{Answer, Config, Connection, Handshake, Input, Instant, Operation, Suites};
#[cfg(feature = "rpk")]
use dtls_psk::{CertificateTypes, Crypto as _, PeerCertificate, Refusal, RustCrypto, raw_public_key};
use lwm2m_client::objects::Value;
use lwm2m_client::{Credential, PresharedKey};

/// The server's side of an association.
pub type Secured = Connection<4096, Box<Handshake<4096>>>;

/// The owner of a server's key.
#[derive(Default)]
pub struct Owner {
    /// The private key.
    #[cfg(feature = "rpk")]
    pub secret: Option<[u8; 32]>,
    /// The devices that it knows, as they present themselves.
    #[cfg(feature = "rpk")]
    pub known: Vec<Vec<u8>>,
    /// What devices presented.
    #[cfg(feature = "rpk")]
    pub presented: Vec<Vec<u8>>,
    /// What it presents is another's.
    #[cfg(feature = "rpk")]
    pub impersonates: Option<Vec<u8>>,
    /// Its certificates; without any it has a raw public key alone.
    #[cfg(feature = "x509")]
    pub chain: Vec<Vec<u8>>,
    /// Why handshakes will come to nothing.
    pub suspicions: Vec<dtls_psk::Reason>,
}

/// The public key of a private key, as it is presented.
#[cfg(feature = "rpk")]
pub fn public_key(secret: &[u8; 32]) -> Vec<u8> {
    raw_public_key(&RustCrypto::p256_public(secret).unwrap()).to_vec()
}

impl Owner {
    /// With this key; it knows these devices.
    #[cfg(feature = "rpk")]
    pub fn new(secret: [u8; 32], known: &[&[u8]]) -> Self {
        let known = known.iter().map(|known| known.to_vec()).collect();
        Owner { secret: Some(secret), known, ..Owner::default() }
    }

    /// Whether it has a key.
    pub fn signs(&self) -> bool {
        #[cfg(feature = "rpk")]
        return self.secret.is_some();
        #[cfg(not(feature = "rpk"))]
        false
    }

    /// How handshakes are done.
    pub fn config(&self, suites: Suites) -> Config {
        let config = Config::DEFAULT.with_suites(suites);
        #[cfg(feature = "rpk")]
        let config = match self.secret {
            Some(_) => config.with_certificate_types(CertificateTypes {
                #[cfg(feature = "x509")]
                x509: !self.chain.is_empty(),
                ..CertificateTypes::RAW_PUBLIC_KEY
            }),
            None => config,
        };
        config
    }

    /// Answers all that a connection asks; whether it is established then.
    pub fn answer(
        &mut self,
        keys: &BTreeMap<Vec<u8>, Vec<u8>>,
        connection: &mut Secured,
        now: Instant,
    ) -> bool {
        let mut is_established = false;
        while let Some(pending) = connection.poll_pending() {
            let id = pending.id;
            #[cfg(feature = "rpk")]
            let (own, presented, signature);
            let answer = match pending.operation {
                Operation::LookUpPsk { identity } => {
                    keys.get(identity).map_or(Answer::Unknown, |key| Answer::Psk { key })
                }
                #[cfg(feature = "rpk")]
                Operation::Present { certificate_type } => {
                    let raw =
                        || self.impersonates.clone().unwrap_or_else(|| public_key(&self.secret.unwrap()));
                    own = match certificate_type {
                        #[cfg(feature = "x509")]
                        CertificateType::X509 => self.chain.clone(),
                        _ => vec![raw()],
                    };
                    presented = own.iter().map(Vec::as_slice).collect::<Vec<_>>();
                    Answer::Certificates(&presented)
                }
                #[cfg(feature = "rpk")]
                Operation::Sign { digest } => {
                    signature = RustCrypto::p256_sign(&self.secret.unwrap(), digest).unwrap();
                    Answer::Signature(&signature)
                }
                #[cfg(feature = "rpk")]
                Operation::Compute(computation) => Answer::Computed(computation.run::<RustCrypto>()),
                #[cfg(feature = "rpk")]
                Operation::CheckPeer { certificate: PeerCertificate::RawPublicKey(key) } => {
                    self.presented.push(key.to_vec());
                    match self.known.iter().any(|known| known == key) {
                        true => Answer::Trusted,
                        false => Answer::Refused(Refusal::Unknown),
                    }
                }
                #[cfg(feature = "x509")]
                Operation::CheckPeer { certificate: PeerCertificate::X509(mut chain) } => {
                    let own = chain.next().unwrap();
                    self.presented.extend([own].into_iter().chain(chain).map(<[u8]>::to_vec));
                    match self.known.iter().any(|known| known == own) {
                        true => Answer::Trusted,
                        false => Answer::Refused(Refusal::Unknown),
                    }
                }
                other => panic!("{other:?}"),
            };
            let input = connection.provide(now, id, answer).unwrap();
            is_established |= matches!(input, Some(Input::Established { .. }));
        }
        self.suspicions.extend(connection.suspicion());
        is_established
    }
}

/// `/0/x/2` and the resources of a credential.
pub fn resources<'a>(credential: Option<&Credential<'a>>) -> Vec<(&'static str, Value<'a>)> {
    match credential {
        None => vec![("2", Value::Integer(3))],
        Some(Credential::PresharedKey(PresharedKey { identity, key })) => {
            vec![("2", Value::Integer(0)), ("3", Value::Opaque(identity)), ("5", Value::Opaque(key))]
        }
        #[cfg(feature = "rpk")]
        Some(Credential::RawPublicKey(raw)) => vec![
            ("2", Value::Integer(1)),
            ("3", Value::Opaque(raw.public_key.unwrap_or_default())),
            ("4", Value::Opaque(raw.server_key)),
            ("5", Value::Opaque(raw.private_key.unwrap_or_default())),
        ],
        #[cfg(feature = "x509")]
        Some(Credential::Certificate(certificate)) => {
            let mut resources = vec![
                ("2", Value::Integer(2)),
                ("3", Value::Opaque(certificate.chain.unwrap_or_default())),
                ("4", Value::Opaque(certificate.server_certificate)),
                ("5", Value::Opaque(certificate.private_key.unwrap_or_default())),
                ("13", Value::Unsigned(certificate.matching as u64)),
                ("15", Value::Unsigned(certificate.usage as u64)),
            ];
            resources.extend(certificate.server_name.map(|name| ("14", Value::String(name))));
            resources
        }
        other => panic!("{other:?}"),
    }
}
