//! The URI of a key in a token (RFC 7512 §2.3; invariant: an attribute that would narrow the search is never left out unseen).

use std::fs;
use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;

use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::TokenError;

/// What of a URI is used.
pub(super) struct Uri {
    pub(super) module: PathBuf,
    pub(super) token: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) slot: Option<u64>,
    pub(super) object: Option<String>,
    pub(super) id: Option<Vec<u8>>,
    pin: Pin,
}

enum Pin {
    None,
    Source(PathBuf),
    Value(Zeroizing<String>),
}

impl Uri {
    pub(super) fn parse(uri: &str) -> Result<Self, TokenError> {
        let rest = uri.strip_prefix("pkcs11:").ok_or(TokenError::Uri("does not begin with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut module = None;
        let mut parsed = Self {
            module: PathBuf::new(),
            token: None,
            serial: None,
            slot: None,
            object: None,
            id: None,
            pin: Pin::None,
        };
        for attribute in path.split(';').filter(|attribute| !attribute.is_empty()) {
            let (name, value) = parts(attribute)?;
            match name {
                "token" => parsed.token = Some(text(value)?),
                "serial" => parsed.serial = Some(text(value)?),
                "object" => parsed.object = Some(text(value)?),
                "id" => parsed.id = Some(value),
                "slot-id" => {
                    let number = text(value)?
                        .parse()
                        .map_err(|_| TokenError::Uri("has a slot-id that is no number"))?;
                    parsed.slot = Some(number);
                }
                "type" if value == b"private" => {}
                "type" => return Err(TokenError::Uri("is not one of a private key: type=private")),
                _ => {
                    return Err(TokenError::Uri(
                        "has an attribute other than token, serial, slot-id, object, id and type",
                    ));
                }
            }
        }
        for attribute in query.split('&').filter(|attribute| !attribute.is_empty()) {
            let (name, value) = parts(attribute)?;
            match name {
                "module-path" => module = Some(PathBuf::from(text(value)?)),
                "pin-source" => {
                    let source = text(value)?;
                    let file = source.strip_prefix("file:").unwrap_or(&source);
                    let file = file.strip_prefix("//").unwrap_or(file);
                    parsed.pin = Pin::Source(PathBuf::from(file));
                }
                "pin-value" => parsed.pin = Pin::Value(Zeroizing::new(text(value)?)),
                // RFC 7512 §2.3: what is unknown in the query is ignored.
                _ => {}
            }
        }
        parsed.module = module.ok_or(TokenError::Uri("has no module-path, the file of the module"))?;
        Ok(parsed)
    }

    /// The PIN, if the token wants one.
    pub(super) fn pin(&self) -> Result<Option<AuthPin>, TokenError> {
        match &self.pin {
            Pin::None => Ok(None),
            Pin::Value(pin) => Ok(Some(AuthPin::from(pin.as_str()))),
            Pin::Source(file) => {
                let pin = fs::read_to_string(file).map(Zeroizing::new).map_err(TokenError::Pin)?;
                Ok(Some(AuthPin::from(pin.trim_end_matches(['\n', '\r']))))
            }
        }
    }
}

fn parts(attribute: &str) -> Result<(&str, Vec<u8>), TokenError> {
    let (name, value) =
        attribute.split_once('=').ok_or(TokenError::Uri("has an attribute without a value"))?;
    Ok((name, decoded(value).ok_or(TokenError::Uri("has a percent sign without two hex digits"))?))
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn decoded(value: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = value.bytes();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            byte => byte,
        });
    }
    Some(decoded)
}

fn text(value: Vec<u8>) -> Result<String, TokenError> {
    String::from_utf8(value).map_err(|_| TokenError::Uri("has a value that is no text"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::path::Path;
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn what_names_a_key_is_read() {
        let uri = Uri::parse(
            "pkcs11:token=My%20token;object=server;id=%01%ff;slot-id=7;serial=ab;type=private\
             ?module-path=/lib/m.so&pin-value=12%2034&other=1",
        )
        .unwrap();
        assert_eq!(uri.module, Path::new("/lib/m.so"));
        assert_eq!((uri.token.as_deref(), uri.object.as_deref()), (Some("My token"), Some("server")));
        assert_eq!((uri.id.as_deref(), uri.slot), (Some(&[1, 0xff][..]), Some(7)));
        assert_eq!(uri.serial.as_deref(), Some("ab"));
        assert!(matches!(&uri.pin, Pin::Value(pin) if pin.as_str() == "12 34"));
        for source in ["/run/pin", "file:/run/pin", "file:///run/pin"] {
            let uri = Uri::parse(&std::format!("pkcs11:?module-path=m&pin-source={source}")).unwrap();
            assert!(matches!(&uri.pin, Pin::Source(file) if file == Path::new("/run/pin")), "{source}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_uri_is_said() {
        for (uri, complaint) in [
            ("/etc/server.key", "does not begin with pkcs11:"),
            ("pkcs11:object=a", "has no module-path"),
            ("pkcs11:object?module-path=m", "without a value"),
            ("pkcs11:object=%4?module-path=m", "percent sign"),
            ("pkcs11:object=%ff?module-path=m", "no text"),
            ("pkcs11:slot-id=x?module-path=m", "no number"),
            ("pkcs11:type=public?module-path=m", "type=private"),
            ("pkcs11:model=x?module-path=m", "other than"),
        ] {
            let error = Uri::parse(uri).err().unwrap().to_string();
            assert!(error.contains(complaint), "{uri}: {error}");
        }
    }
}
