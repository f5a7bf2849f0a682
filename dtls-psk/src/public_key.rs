//! Public keys of P-256 as a SubjectPublicKeyInfo (RFC 5480 §2), which is what a raw public key is (RFC 7250 §3), and the one in a
//! certificate (RFC 5280 §4.1; invariant: another algorithm, curve or form of the point is no key here).

use crate::crypto::POINT;
#[cfg(feature = "x509")]
use crate::wire::Reader;

/// The length of a SubjectPublicKeyInfo with an uncompressed point of P-256, in bytes.
pub const RAW_PUBLIC_KEY: usize = PREFIX.len() + POINT;

/// Everything in front of the point: id-ecPublicKey, secp256r1, and the head of a bit string.
const PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The raw public key of an uncompressed point of P-256: what the peer is to know of a key.
pub fn raw_public_key(point: &[u8; POINT]) -> [u8; RAW_PUBLIC_KEY] {
    let mut bytes = [0; RAW_PUBLIC_KEY];
    let (head, tail) = bytes.split_at_mut(PREFIX.len());
    head.copy_from_slice(&PREFIX);
    tail.copy_from_slice(point);
    bytes
}

/// The point in a SubjectPublicKeyInfo; `None` if it is none of P-256 in the uncompressed form. Whether it lies on the curve is
/// seen when it is used.
pub fn point_of(public_key: &[u8]) -> Option<&[u8; POINT]> {
    let point: &[u8; POINT] = public_key.strip_prefix(&PREFIX)?.try_into().ok()?;
    point.starts_with(&[4]).then_some(point)
}

/// The SubjectPublicKeyInfo of a certificate in DER; `None` if there is none where it must be.
#[cfg(feature = "x509")]
pub(crate) fn public_key_of(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let mut outer = Reader::new(certificate);
    let (tag, content, _) = element(&mut outer)?;
    (tag == SEQUENCE && outer.is_empty()).then_some(())?;
    let (tag, to_be_signed, _) = element(&mut Reader::new(content))?;
    (tag == SEQUENCE).then_some(())?;
    let mut fields = Reader::new(to_be_signed);
    let mut ahead = fields;
    if element(&mut ahead)?.0 == VERSION {
        fields = ahead;
    }
    // Serial number, algorithm, issuer, validity, subject.
    for _ in 0..5 {
        element(&mut fields)?;
    }
    let (tag, _, whole) = element(&mut fields)?;
    (tag == SEQUENCE).then_some(whole)
}

/// Tag, content and all bytes of the next element in DER.
#[cfg(feature = "x509")]
fn element<'a>(reader: &mut Reader<'a>) -> Option<(u8, &'a [u8], &'a [u8])> {
    let from = reader.rest();
    let tag = reader.u8()?;
    let length = match reader.u8()? {
        length @ 0..=0x7f => length.into(),
        0x81 => reader.u8()?.into(),
        0x82 => reader.u16()?.into(),
        _ => return None,
    };
    let content = reader.take(length)?;
    Some((tag, content, from.get(..from.len().checked_sub(reader.rest().len())?)?))
}
