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
    let mut fields = behind_serial_number(certificate)?;
    // Algorithm, issuer, validity, subject.
    for _ in 0..4 {
        element(&mut fields)?;
    }
    let (tag, _, whole) = element(&mut fields)?;
    (tag == SEQUENCE).then_some(whole)
}

/// When a certificate begins to be valid, in seconds since 1970.
#[cfg(feature = "x509-path")]
pub(crate) fn not_before(certificate: &[u8]) -> Option<u64> {
    let mut fields = behind_serial_number(certificate)?;
    // Algorithm, issuer.
    for _ in 0..2 {
        element(&mut fields)?;
    }
    let (_, validity, _) = element(&mut fields)?;
    let (tag, time, _) = element(&mut Reader::new(validity))?;
    let digits = |time: &[u8]| {
        time.iter().try_fold(0_u64, |sum, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            sum.checked_mul(10)?.checked_add(digit.into())
        })
    };
    // RFC 5280 §4.1.2.5: YYMMDDHHMMSSZ until 2049, YYYYMMDDHHMMSSZ after it.
    let (year, rest) = match tag {
        0x17 => time.split_at_checked(2)?,
        0x18 => time.split_at_checked(4)?,
        _ => return None,
    };
    let year = match (tag, digits(year)?) {
        (0x17, year @ 50..) => year.checked_add(1900)?,
        (0x17, year) => year.checked_add(2000)?,
        (_, year) => year,
    };
    let mut parts = [0; 5];
    let (numbers, zone) = rest.split_at_checked(10)?;
    for (part, number) in parts.iter_mut().zip(numbers.chunks_exact(2)) {
        *part = digits(number)?;
    }
    let [month, day, hour, minute, second] = parts;
    let is_possible = zone == b"Z" && (1970..=9999).contains(&year) && (1..=12).contains(&month);
    (is_possible && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61).then_some(())?;
    // The days before March of year 0, and those of whole months and years from there on.
    let (year, month) =
        if month > 2 { (year, month.checked_sub(3)?) } else { (year.checked_sub(1)?, month.checked_add(9)?) };
    let days = year.checked_mul(365)?.checked_add(year >> 2)?.checked_sub(year.checked_div(100)?)?;
    let days = days.checked_add(year.checked_div(400)?)?;
    let days = days.checked_add(month.checked_mul(153)?.checked_add(2)?.checked_div(5)?)?.checked_add(day)?;
    let days = days.checked_sub(719_469)?;
    let hours = days.checked_mul(24)?.checked_add(hour)?;
    hours.checked_mul(60)?.checked_add(minute)?.checked_mul(60)?.checked_add(second)
}

/// The attributes of the subject in DER.
#[cfg(feature = "x509-path")]
pub(crate) fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let mut fields = behind_serial_number(certificate)?;
    // Algorithm, issuer, validity.
    for _ in 0..3 {
        element(&mut fields)?;
    }
    element(&mut fields).map(|(_, subject, _)| subject)
}

/// The last common name of the subject (RFC 6125 §1.8: the most specific one).
#[cfg(feature = "x509-path")]
pub(crate) fn common_name(certificate: &[u8]) -> Option<&[u8]> {
    const OBJECT_IDENTIFIER: u8 = 0x06;
    const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
    let (mut sets, mut found) = (Reader::new(subject(certificate)?), None);
    while !sets.is_empty() {
        let mut set = Reader::new(element(&mut sets)?.1);
        while !set.is_empty() {
            let mut attribute = Reader::new(element(&mut set)?.1);
            let (tag, kind, _) = element(&mut attribute)?;
            if tag == OBJECT_IDENTIFIER && kind == COMMON_NAME {
                found = Some(element(&mut attribute)?.1);
            }
        }
    }
    found
}

/// Whether there is anything in a certificate that may be a subjectAltName: then the common name does not count.
#[cfg(feature = "x509-path")]
pub(crate) fn has_other_names(certificate: &[u8]) -> bool {
    const SUBJECT_ALT_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x11];
    certificate.windows(SUBJECT_ALT_NAME.len()).any(|bytes| bytes == SUBJECT_ALT_NAME)
}

#[cfg(feature = "x509")]
const SEQUENCE: u8 = 0x30;

/// The fields of a certificate that follow its serial number.
#[cfg(feature = "x509")]
fn behind_serial_number(certificate: &[u8]) -> Option<Reader<'_>> {
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
    element(&mut fields)?;
    Some(fields)
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

#[cfg(test)]
#[cfg(feature = "x509-path")]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A certificate up to its validity.
    fn from(tag: u8, time: &str) -> Vec<u8> {
        let element = |tag: u8, content: &[u8]| {
            let length = u8::try_from(content.len()).unwrap_or(0x7f);
            [&[tag, length], content].concat()
        };
        let validity = element(SEQUENCE, &element(tag, time.as_bytes()));
        let empty = element(SEQUENCE, &[]);
        let fields = [&element(2, &[1])[..], &empty, &empty, &validity].concat();
        element(SEQUENCE, &element(SEQUENCE, &fields))
    }

    #[test]
    fn times_of_both_forms_are_seconds_since_1970() {
        for (tag, time, seconds) in [
            (0x17, "700101000000Z", Some(0)),
            (0x17, "700102000001Z", Some(86_401)),
            (0x17, "000229120000Z", Some(951_825_600)),
            (0x17, "260601000000Z", Some(1_780_272_000)),
            (0x17, "491231235959Z", Some(2_524_607_999)),
            (0x18, "20500101000000Z", Some(2_524_608_000)),
            (0x18, "21000301000000Z", Some(4_107_542_400)),
            (0x18, "99991231235959Z", Some(253_402_300_799)),
            // Before 1970, out of range, without a zone or with another one, and no digits.
            (0x17, "691231235959Z", None),
            (0x17, "260001000000Z", None),
            (0x17, "261301000000Z", None),
            (0x17, "260132000000Z", None),
            (0x17, "260101240000Z", None),
            (0x17, "260101006000Z", None),
            (0x17, "260101000000", None),
            (0x17, "260101000000+0100", None),
            (0x17, "26010100000aZ", None),
            (0x17, "", None),
            (0x16, "260101000000Z", None),
        ] {
            assert_eq!(not_before(&from(tag, time)), seconds, "{time}");
        }
    }
}
