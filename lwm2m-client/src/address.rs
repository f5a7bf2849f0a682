//! Where a server is and what its name may be: what a URI (`/0/x/0`) and a Server Name Indication (`/0/x/14`) say.
//!
//! Invariant: what is not understood as a whole is refused.

/// Where a server is: what a URI says before any name was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAddress<'a> {
    /// `coaps` (DTLS) rather than `coap`.
    pub is_secure: bool,
    /// Host name or address literal, IPv6 without its brackets.
    pub host: &'a str,
    /// UDP port; 5683 or 5684 when the URI names none.
    pub port: u16,
}

impl<'a> ServerAddress<'a> {
    /// Reads `coap://host[:port][/]` and `coaps://…`; other schemes and any path are refused.
    pub fn parse(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = split(uri, b':')?;
        let is_secure = scheme.eq_ignore_ascii_case("coaps");
        if !is_secure && !scheme.eq_ignore_ascii_case("coap") {
            return None;
        }
        let rest = rest.strip_prefix("//")?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.bytes().any(|byte| b"/?#@".contains(&byte)) {
            return None;
        }
        let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
            let (host, after) = split(bracketed, b']')?;
            (host, if after.is_empty() { after } else { after.strip_prefix(':')? })
        } else {
            split(authority, b':').unwrap_or((authority, ""))
        };
        let port = match port {
            "" if is_secure => 5684,
            "" => 5683,
            digits => decimal_port(digits)?,
        };
        if host.is_empty() || port == 0 { None } else { Some(ServerAddress { is_secure, host, port }) }
    }
}

/// The text as a name that a server may be asked for (RFC 6066 §3): letters, digits, hyphens and dots, at most 253 bytes, and no
/// address.
#[cfg(feature = "x509")]
pub(crate) fn host_name(text: &str) -> Option<&str> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_known = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let is_name = name.bytes().any(|byte| !byte.is_ascii_digit() && byte != b'.');
    (is_known && is_name && name.len() <= dtls_psk::SERVER_NAME_MAX).then_some(name)
}

/// Whether the text may be the name of a server (`/0/x/14`): letters, digits, hyphens, underscores and dots, at most 253 bytes, and
/// no address.
#[cfg(feature = "x509")]
pub fn is_host_name(text: &str) -> bool {
    host_name(text).is_some()
}

/// What lies before and behind the first `separator`, which is ASCII.
fn split(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == separator)?;
    Some((text.get(..at)?, text.get(at.checked_add(1)?..)?))
}

fn decimal_port(digits: &str) -> Option<u16> {
    lwm2m_objects::decimal::parse_unsigned(digits.as_bytes()).and_then(|port| u16::try_from(port).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_split_into_scheme_host_and_port() {
        let parse = |uri| ServerAddress::parse(uri).map(|a| (a.is_secure, a.host, a.port));
        assert_eq!(parse("coap://127.0.0.1"), Some((false, "127.0.0.1", 5683)));
        assert_eq!(parse("coaps://name.example/"), Some((true, "name.example", 5684)));
        assert_eq!(parse("coap://[::1]:7000"), Some((false, "::1", 7000)));
        assert_eq!(parse("COAPS://a:1"), Some((true, "a", 1)));
        for bad in [
            "http://a",
            "coap://",
            "coap://:5683",
            "coap://a:0",
            "coap://a:65536",
            "coap://a/rd",
            "coap://a:x",
            "a",
            "coap://[::1",
        ] {
            assert_eq!(ServerAddress::parse(bad), None, "{bad}");
        }
    }

    #[cfg(feature = "x509")]
    #[test]
    fn a_host_name_is_no_address() {
        for (text, name) in [
            ("lwm2m.example", Some("lwm2m.example")),
            ("lwm2m.example.", Some("lwm2m.example")),
            ("a_b-1", Some("a_b-1")),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
            ("", None),
            (".", None),
            ("a b", None),
            ("b\u{fc}cher.example", None),
        ] {
            assert_eq!(host_name(text), name, "{text}");
        }
        let longest = std::string::String::from_iter(core::iter::repeat_n('a', 253));
        assert_eq!(host_name(&longest), Some(&*longest));
        assert_eq!(host_name(&(longest + "a")), None);
    }
}
