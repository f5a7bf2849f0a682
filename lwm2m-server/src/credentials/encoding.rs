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

/// One section of PEM, with lines of 64 characters.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // All the room at once: what grows leaves a copy behind.
    let room = der.len().saturating_mul(3).saturating_div(2).saturating_add(label.len().saturating_mul(2));
    let mut text = Zeroizing::new(String::with_capacity(room.saturating_add(64)));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let word =
                group.iter().chain(&[0, 0]).take(3).fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
            for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
                let digit = usize::try_from(word >> shift & 0x3f).ok().and_then(|digit| DIGITS.get(digit));
                text.push(match digit {
                    Some(digit) if place <= group.len() => char::from(*digit),
                    _ => '=',
                });
            }
        }
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_pem_is_read_again_whatever_its_length() {
        for length in 2..200 {
            let der: Vec<u8> = core::iter::once(0x30).chain((0..length).map(|byte| byte ^ 0xa5)).collect();
            let text = pem("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            assert_eq!(certificates(text.as_bytes()), [der]);
        }
        assert!(certificates(pem("PRIVATE KEY", &[0x30, 0]).as_bytes()).is_empty());
    }
}
