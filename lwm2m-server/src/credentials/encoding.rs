//! Keys, certificates and revocation lists as files hold them: PEM with several sections, or DER of one thing (RFC 7468).
//!
//! Invariant: what may be a private key is wiped when dropped.

use rustls_pki_types::pem::{PemObject as _, SectionKind};
use zeroize::Zeroizing;

/// The sections of these kinds in PEM, in their order, or the whole where it is DER; empty where it is neither.
pub(super) fn sections(bytes: &[u8], kinds: &[SectionKind]) -> Vec<Zeroizing<Vec<u8>>> {
    // Every DER of interest here is a sequence; PEM is text.
    if bytes.first() == Some(&0x30) && core::str::from_utf8(bytes).is_err() {
        return vec![Zeroizing::new(bytes.to_vec())];
    }
    <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes)
        .map_while(Result::ok)
        .map(|(kind, der)| (kind, Zeroizing::new(der)))
        .filter(|(kind, _)| kinds.contains(kind))
        .map(|(_, der)| der)
        .collect()
}

/// The certificates in PEM, in their order, or the one in DER; empty where there are none.
#[must_use]
pub fn certificates(bytes: &[u8]) -> Vec<Vec<u8>> {
    sections(bytes, &[SectionKind::Certificate]).iter().map(|der| der.to_vec()).collect()
}
