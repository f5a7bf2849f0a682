//! What a certificate says of itself: for people, and for the name that it may be bound by (RFC 5280 §4.1, §4.2).
//!
//! Invariant: nothing here says that a certificate is to be trusted; that is for [`DeviceTrust`](super::DeviceTrust), whose path
//! validation reads it anew.

use core::fmt;

use super::date;
use super::der::{
    self, BIT_STRING, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, SET,
};
use super::subject::Fingerprint;

/// The fields of a certificate that people, and bindings by name, ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The SHA-256 of all of it.
    pub fingerprint: Fingerprint,
    /// The SHA-256 of its SubjectPublicKeyInfo.
    pub key: Fingerprint,
    /// The SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// The serial number in hex digits.
    pub serial: String,
    /// The subject as `CN=…, O=…`.
    pub subject: String,
    /// The issuer in the same form.
    pub issuer: String,
    /// The last common name of the subject, if it is text.
    pub common_name: Option<String>,
    /// The subjectAltNames that are DNS names.
    pub dns_names: Vec<String>,
    /// Those that are URIs.
    pub uris: Vec<String>,
    /// Those that are IP addresses, as text.
    pub addresses: Vec<String>,
    /// The first second of its validity, since 1970.
    pub not_before: u64,
    /// The last second of its validity, since 1970.
    pub not_after: u64,
    /// It may issue others.
    pub is_authority: bool,
    /// How many authorities there may be between it and a device or server, where it says so.
    pub path_length: Option<u64>,
    /// Its keyUsage, where it has one, allows signatures in handshakes.
    pub may_sign: bool,
    /// What its extendedKeyUsage allows, in words; `None` without the extension.
    pub purposes: Option<Vec<String>>,
    /// It may issue for some names only, or not for some.
    pub has_name_constraints: bool,
    /// The bytes of subject and issuer as they are compared.
    pub(super) names: (Vec<u8>, Vec<u8>),
}

impl Certificate {
    /// Reads a certificate in DER; `None` if it is none.
    #[must_use]
    pub fn parse(certificate: &[u8]) -> Option<Self> {
        let mut outer = Reader::new(der::only(certificate, SEQUENCE)?);
        let mut fields = Reader::new(outer.expect(SEQUENCE)?.content);
        // Version 3, without which there are no extensions.
        let is_third = fields.optional(0xa0).is_some();
        let serial = fields.expect(INTEGER)?.content;
        fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?;
        let mut validity = Reader::new(fields.expect(SEQUENCE)?.content);
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        let subject = fields.expect(SEQUENCE)?;
        let public_key = fields.expect(SEQUENCE)?.whole;
        let mut found = Self {
            fingerprint: Fingerprint::of(certificate),
            key: Fingerprint::of(public_key),
            public_key: public_key.to_vec(),
            serial: hex::encode(serial),
            subject: distinguished_name(subject.content),
            issuer: distinguished_name(issuer.content),
            common_name: common_name(subject.content),
            dns_names: Vec::new(),
            uris: Vec::new(),
            addresses: Vec::new(),
            not_before,
            not_after,
            is_authority: false,
            path_length: None,
            may_sign: true,
            purposes: None,
            has_name_constraints: false,
            names: (subject.content.to_vec(), issuer.content.to_vec()),
        };
        // Unique identifiers, which nobody uses.
        for tag in [0x81, 0x82] {
            fields.optional(tag);
        }
        if is_third && let Some(extensions) = fields.optional(0xa3) {
            for extension in der::elements(der::only(extensions.content, SEQUENCE)?) {
                found.extension(extension.content)?;
            }
        }
        Some(found)
    }

    fn extension(&mut self, extension: &[u8]) -> Option<()> {
        let mut fields = Reader::new(extension);
        let kind = fields.expect(OBJECT_IDENTIFIER)?.content;
        fields.optional(BOOLEAN);
        let value = fields.expect(OCTET_STRING)?.content;
        match kind {
            // keyUsage: the first bit is digitalSignature.
            [0x55, 0x1d, 0x0f] => {
                let bits = der::only(value, BIT_STRING)?;
                self.may_sign = bits.get(1).is_some_and(|bits| bits & 0x80 != 0);
            }
            // subjectAltName
            [0x55, 0x1d, 0x11] => {
                for name in der::elements(der::only(value, SEQUENCE)?) {
                    match (name.tag, core::str::from_utf8(name.content)) {
                        (0x82, Ok(text)) => self.dns_names.push(text.to_owned()),
                        (0x86, Ok(text)) => self.uris.push(text.to_owned()),
                        (0x87, _) => self.addresses.extend(address(name.content)),
                        _ => {}
                    }
                }
            }
            // basicConstraints
            [0x55, 0x1d, 0x13] => {
                let mut constraints = Reader::new(der::only(value, SEQUENCE)?);
                self.is_authority =
                    constraints.optional(BOOLEAN).is_some_and(|is_authority| is_authority.content == [0xff]);
                self.path_length = constraints.optional(INTEGER).map(|length| number(length.content));
            }
            // nameConstraints
            [0x55, 0x1d, 0x1e] => self.has_name_constraints = true,
            // extKeyUsage
            [0x55, 0x1d, 0x25] => {
                let purposes = der::elements(der::only(value, SEQUENCE)?);
                self.purposes = Some(purposes.map(|purpose| self::purpose(purpose.content)).collect());
            }
            _ => {}
        }
        Some(())
    }

    /// Every name that a binding by name may go by: the common name first, then DNS names and URIs; none twice.
    #[must_use]
    pub fn bindable_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.common_name.iter().chain(&self.dns_names).chain(&self.uris) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// Its extendedKeyUsage, where it has one, allows to be a client.
    #[must_use]
    pub fn may_be_client(&self) -> bool {
        let is_for = |purpose: &String| purpose == CLIENT || purpose == ANY;
        self.purposes.as_ref().is_none_or(|purposes| purposes.iter().any(is_for))
    }

    /// Issued by itself, as far as the names go.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.names.0 == self.names.1
    }

    /// What is wrong with its dates at a time, in words.
    ///
    /// # Errors
    /// Not valid yet, or not any more.
    pub fn check_dates(&self, now: u64) -> Result<(), String> {
        let at = date::utc(now);
        if now < self.not_before {
            return Err(format!("{self} is not valid before {}, and it is {at}", date::utc(self.not_before)));
        }
        if now > self.not_after {
            return Err(format!("{self} expired at {}, and it is {at}", date::utc(self.not_after)));
        }
        Ok(())
    }
}

/// The certificate of 'CN=…'.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate of '{}'", self.subject)
    }
}

/// Those that are greater than anything that is counted here are as good as the greatest.
fn number(integer: &[u8]) -> u64 {
    let digit = |sum: u64, byte: &u8| sum.checked_mul(256)?.checked_add(u64::from(*byte));
    integer.iter().try_fold(0, digit).unwrap_or(u64::MAX)
}

/// UTCTime of two digits for the year, or GeneralizedTime of four.
pub(super) fn time(fields: &mut Reader<'_>) -> Option<u64> {
    let time = fields.element()?;
    let digits = time.content.strip_suffix(b"Z")?;
    match time.tag {
        0x17 => {
            let century: &[u8] = if digits.first()? < &b'5' { b"20" } else { b"19" };
            date::seconds(&[century, digits].concat())
        }
        0x18 => date::seconds(digits),
        _ => None,
    }
}

/// The attributes of a distinguished name, type and value each.
fn attributes(name: &[u8]) -> impl Iterator<Item = (&[u8], der::Element<'_>)> {
    der::elements(name).filter(|set| set.tag == SET).flat_map(|set| der::elements(set.content)).filter_map(
        |attribute| {
            let mut fields = Reader::new(attribute.content);
            Some((fields.expect(OBJECT_IDENTIFIER)?.content, fields.element()?))
        },
    )
}

const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// RFC 6125 §1.8: the most specific one is the last.
fn common_name(name: &[u8]) -> Option<String> {
    let (_, value) = attributes(name).filter(|(kind, _)| *kind == COMMON_NAME).last()?;
    string(&value).map(str::to_owned)
}

/// UTF8String, PrintableString, IA5String.
fn string<'a>(value: &der::Element<'a>) -> Option<&'a str> {
    [0x0c, 0x13, 0x16].contains(&value.tag).then(|| core::str::from_utf8(value.content).ok())?
}

/// In the order of the certificate, for people: what drives a terminal or looks like a separator is replaced.
pub(super) fn distinguished_name(name: &[u8]) -> String {
    let parts: Vec<String> = attributes(name)
        .map(|(kind, value)| {
            let kind = match kind {
                [0x55, 0x04, 0x03] => "CN".to_owned(),
                [0x55, 0x04, 0x05] => "serialNumber".to_owned(),
                [0x55, 0x04, 0x06] => "C".to_owned(),
                [0x55, 0x04, 0x07] => "L".to_owned(),
                [0x55, 0x04, 0x08] => "ST".to_owned(),
                [0x55, 0x04, 0x0a] => "O".to_owned(),
                [0x55, 0x04, 0x0b] => "OU".to_owned(),
                [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC".to_owned(),
                other => dotted(other),
            };
            match string(&value) {
                Some(text) => {
                    let text = text.replace(|c: char| c.is_control() || c == ',' || c == '\'', "\u{fffd}");
                    format!("{kind}={text}")
                }
                None => format!("{kind}=#{}", hex::encode(value.content)),
            }
        })
        .collect();
    if parts.is_empty() { "(no name)".to_owned() } else { parts.join(", ") }
}

const CLIENT: &str = "client authentication";
const ANY: &str = "any purpose";

fn purpose(identifier: &[u8]) -> String {
    match identifier {
        [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01] => "server authentication".to_owned(),
        [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02] => CLIENT.to_owned(),
        [0x55, 0x1d, 0x25, 0x00] => ANY.to_owned(),
        other => dotted(other),
    }
}

/// An object identifier as numbers with dots.
fn dotted(identifier: &[u8]) -> String {
    let mut numbers: Vec<String> = Vec::new();
    let mut number = 0_u64;
    for byte in identifier {
        number = (number & (u64::MAX >> 7)) << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first.to_string());
                number = number.saturating_sub(first.saturating_mul(40));
            }
            numbers.push(number.to_string());
            number = 0;
        }
    }
    numbers.join(".")
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| core::net::Ipv4Addr::from(bytes).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| core::net::Ipv6Addr::from(bytes).to_string()),
        _ => None,
    }
}
