//! Certificates for a run: an authority that nobody else knows, the servers' and the devices'.
//!
//! Invariant: keys live as long as the run; those of devices lie in its folder, which goes with it.

use lwm2m_server::keys::{ServerKey, ServerKeys};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Who issues the certificates of a run.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A device's certificate and key.
pub(crate) struct Device {
    /// In DER.
    pub(crate) certificate: Vec<u8>,
    pub(crate) certificate_pem: String,
    /// PKCS #8 in DER.
    pub(crate) key: Vec<u8>,
    pub(crate) key_pem: String,
}

impl core::fmt::Debug for Authority {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    pub(crate) fn new() -> Result<Self, String> {
        let mut own = params("lwm2m-interop", Vec::new())?;
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        own.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(own, key()?).map(Self).map_err(told)
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server that has this name or address.
    pub(crate) fn server(&self, name: &str) -> Result<ServerKeys, String> {
        let key = key()?;
        let mut own = params(name, vec![name.to_owned()])?;
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let own = own.signed_by(&key, &self.0).map_err(told)?;
        // PKCS #8 of P-256 has the number there.
        let secret = key.serialize_der().get(36..68).and_then(|secret| <[u8; 32]>::try_from(secret).ok());
        let server = ServerKey::in_memory(&secret.ok_or("a key of another kind")?)
            .and_then(|server| server.with_certificates(vec![own.der().to_vec()]));
        let server = server.ok_or("a certificate of another key")?;
        let server =
            server.with_anchor(self.0.der().to_vec(), name).map_err(|refusal| format!("{refusal:?}"))?;
        Ok(ServerKeys::new(vec![server]))
    }

    pub(crate) fn device(&self, endpoint: &str) -> Result<Device, String> {
        let key = key()?;
        let mut own = params(endpoint, Vec::new())?;
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let own = own.signed_by(&key, &self.0).map_err(told)?;
        Ok(Device {
            certificate: own.der().to_vec(),
            certificate_pem: own.pem(),
            key: key.serialize_der(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn key() -> Result<KeyPair, String> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(told)
}

fn params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::new(names).map_err(told)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2999, 1, 1);
    Ok(params)
}

fn told(error: rcgen::Error) -> String {
    error.to_string()
}
