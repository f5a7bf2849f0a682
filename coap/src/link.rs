//! Link-format (RFC 6690 §2): a tolerant parser, and a writer to any sink.
//!
//! Invariant: the parser accepts what devices send (blanks after separators, quoted and unquoted values, attributes
//! without a value, trailing commas) and never reads beyond a link that it cannot understand.

use core::fmt;

use crate::sink::{Full, Sink};

/// Walks the links of `text`; after an error there is no more.
#[must_use]
pub fn parse(text: &str) -> Links<'_> {
    Links { rest: text }
}

/// Yields each link.
#[derive(Clone, Debug)]
pub struct Links<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Links<'a> {
    type Item = Result<Link<'a>, LinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_start_matches([',', ' ', '\t', '\r', '\n']);
        if self.rest.is_empty() {
            return None;
        }
        let link =
            self.rest.strip_prefix('<').and_then(|rest| rest.split_once('>')).and_then(|(target, rest)| {
                let rest = rest.trim_start();
                let (attributes, rest) = split_unquoted(rest, ',')?;
                // Between the target and the next link there is nothing but attributes.
                (attributes.is_empty() || attributes.starts_with(';'))
                    .then_some((Link { target, attributes }, rest))
            });
        let Some((link, rest)) = link else {
            self.rest = "";
            return Some(Err(LinkError));
        };
        self.rest = rest;
        Some(Ok(link))
    }
}

/// One link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// What stands between `<` and `>`.
    pub target: &'a str,
    attributes: &'a str,
}

impl<'a> Link<'a> {
    /// The target without the slashes at its end; `/` stays as it is.
    #[must_use]
    pub fn path(&self) -> &'a str {
        let path = self.target.trim_end_matches('/');
        if path.is_empty() && !self.target.is_empty() { "/" } else { path }
    }

    /// Walks the attributes: names and values.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { rest: self.attributes }
    }

    /// The value of the first attribute with this name; empty when it has none.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        self.attributes()
            .find(|attribute| attribute.name == name)
            .map(|attribute| attribute.value.unwrap_or(""))
    }
}

/// Yields each attribute of a link.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        self.rest = self.rest.trim_start_matches([';', ' ', '\t', '\r', '\n']);
        if self.rest.is_empty() {
            return None;
        }
        let (attribute, rest) = split_unquoted(self.rest, ';')?;
        self.rest = rest;
        Some(match attribute.split_once('=') {
            None => Attribute { name: attribute.trim(), value: None },
            Some((name, value)) => {
                let value = value.trim();
                let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                Attribute { name: name.trim(), value: Some(inner.unwrap_or(value)) }
            }
        })
    }
}

/// One attribute of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The name.
    pub name: &'a str,
    /// The value without its quotes (a backslash before a quote stays); `None` when there is no `=`.
    pub value: Option<&'a str>,
}

/// The text is no link-format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkError;

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the text is no link-format: a target in angle brackets and attributes are expected")
    }
}

impl core::error::Error for LinkError {}

/// Splits `text` at the first `separator` outside of quotes; `None` when a quote is not closed.
fn split_unquoted(text: &str, separator: char) -> Option<(&str, &str)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => {
                let (before, rest) = text.split_at_checked(index)?;
                return Some((before, rest.strip_prefix(separator)?));
            }
            _ => {}
        }
    }
    (!is_quoted).then_some((text, ""))
}

/// Writes links to a sink.
#[derive(Debug)]
pub struct LinkWriter<'s, S: ?Sized> {
    sink: &'s mut S,
    is_first: bool,
}

impl<'s, S: Sink + ?Sized> LinkWriter<'s, S> {
    /// Begins a list of links.
    #[must_use]
    pub fn new(sink: &'s mut S) -> Self {
        Self { sink, is_first: true }
    }

    /// Writes a link to the path `prefix` followed by a slash and each of `ids`; to `/` when both are empty. Attributes
    /// that follow belong to it.
    ///
    /// # Errors
    /// [`Full`], as of all methods.
    pub fn path(&mut self, prefix: &str, ids: &[u16]) -> Result<&mut Self, Full> {
        self.begin()?;
        self.sink.write(prefix.as_bytes())?;
        for id in ids {
            self.sink.write(b"/")?;
            self.decimal(u32::from(*id))?;
        }
        if prefix.is_empty() && ids.is_empty() {
            self.sink.write(b"/")?;
        }
        self.sink.write(b">")?;
        Ok(self)
    }

    /// Writes a link to any target. Attributes that follow belong to it.
    ///
    /// # Errors
    /// [`Full`].
    pub fn link(&mut self, target: &str) -> Result<&mut Self, Full> {
        self.begin()?;
        self.sink.write(target.as_bytes())?;
        self.sink.write(b">")?;
        Ok(self)
    }

    /// Writes an attribute without a value.
    ///
    /// # Errors
    /// [`Full`].
    pub fn flag(&mut self, name: &str) -> Result<&mut Self, Full> {
        self.sink.write(b";")?;
        self.sink.write(name.as_bytes())?;
        Ok(self)
    }

    /// Writes an attribute with a value as it is: a number or a token.
    ///
    /// # Errors
    /// [`Full`].
    pub fn attribute(&mut self, name: &str, value: &str) -> Result<&mut Self, Full> {
        self.flag(name)?.sink.write(b"=")?;
        self.sink.write(value.as_bytes())?;
        Ok(self)
    }

    /// Writes an attribute with an integer.
    ///
    /// # Errors
    /// [`Full`].
    pub fn integer(&mut self, name: &str, value: u32) -> Result<&mut Self, Full> {
        self.flag(name)?.sink.write(b"=")?;
        self.decimal(value)?;
        Ok(self)
    }

    /// Writes an attribute with a value in quotes; quotes and backslashes in it are escaped.
    ///
    /// # Errors
    /// [`Full`].
    pub fn quoted(&mut self, name: &str, value: &str) -> Result<&mut Self, Full> {
        self.flag(name)?.sink.write(b"=\"")?;
        for piece in value.split_inclusive(['"', '\\']) {
            match piece.strip_suffix(['"', '\\']) {
                Some(plain) => {
                    self.sink.write(plain.as_bytes())?;
                    self.sink.write(b"\\")?;
                    self.sink.write(piece.strip_prefix(plain).unwrap_or_default().as_bytes())?;
                }
                None => self.sink.write(piece.as_bytes())?,
            }
        }
        self.sink.write(b"\"")?;
        Ok(self)
    }

    fn begin(&mut self) -> Result<(), Full> {
        if !core::mem::replace(&mut self.is_first, false) {
            self.sink.write(b",")?;
        }
        self.sink.write(b"<")
    }

    fn decimal(&mut self, mut value: u32) -> Result<(), Full> {
        let mut digits = [0; 10];
        let mut length: usize = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0'.saturating_add((value % 10).to_be_bytes()[3]);
            length = length.saturating_add(1);
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.sink.write(digits.get(digits.len().saturating_sub(length)..).unwrap_or_default())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn paths(text: &str) -> Result<Vec<&str>, LinkError> {
        parse(text).map(|link| link.map(|link| link.path())).collect()
    }

    #[test]
    fn a_registration_is_parsed() {
        let text = "</>;rt=\"oma.lwm2m\";ct=\"60 110\", </1/0>,</3>;ver=1.1,\t</5/0/>;dim=2;obs,";
        assert_eq!(paths(text).unwrap(), ["/", "/1/0", "/3", "/5/0"]);
        let links: Vec<_> = parse(text).map(Result::unwrap).collect();
        let [root, _, device, firmware] = links.as_slice() else { unreachable!() };
        assert_eq!(root.attribute("rt"), Some("oma.lwm2m"));
        assert_eq!(root.attribute("ct"), Some("60 110"));
        assert_eq!(device.attribute("ver"), Some("1.1"));
        assert_eq!(firmware.attribute("obs"), Some(""));
        assert_eq!(firmware.attribute("dim"), Some("2"));
        assert_eq!(firmware.attribute("pmin"), None);
    }

    #[test]
    fn separators_in_quotes_do_not_separate() {
        let links: Vec<_> = parse("</a>;title=\"x,y;z\\\",<\";n=1,</b>").map(Result::unwrap).collect();
        let [a, b] = links.as_slice() else { unreachable!() };
        assert_eq!(a.attribute("title"), Some("x,y;z\\\",<"));
        assert_eq!(a.attribute("n"), Some("1"));
        assert_eq!(b.target, "/b");
    }

    #[test]
    fn what_is_no_link_ends_the_list_with_an_error() {
        for text in ["x", "<", "</1", "</1>x", "</1>;a=\"", "/1,</2>"] {
            assert_eq!(parse(text).next(), Some(Err(LinkError)), "{text}");
            assert_eq!(parse(text).count(), 1, "{text}");
        }
        assert_eq!(parse("").next(), None);
        assert_eq!(parse(" , ").next(), None);
    }

    #[test]
    fn every_cut_of_a_list_ends() {
        let text = "</>;rt=\"oma\";ct=60, </1/0>;ver=1.1,</3/0>";
        for end in 0..text.len() {
            assert!(parse(text.get(..end).unwrap()).count() <= 3);
        }
    }

    #[test]
    fn what_is_written_is_parsed() {
        let mut sink: heapless::Vec<u8, 128> = heapless::Vec::new();
        let mut writer = LinkWriter::new(&mut sink);
        writer.path("", &[]).unwrap().quoted("rt", "oma.lwm2m").unwrap().integer("ct", 11542).unwrap();
        writer.path("", &[65535, 0, 5700]).unwrap().attribute("ver", "1.1").unwrap().flag("obs").unwrap();
        writer.path("/device", &[3]).unwrap().quoted("t", "a\"b\\c").unwrap();
        writer.link("coap://h/x").unwrap();
        let text = String::from_utf8(sink.to_vec()).unwrap();
        assert_eq!(
            text,
            "</>;rt=\"oma.lwm2m\";ct=11542,</65535/0/5700>;ver=1.1;obs,</device/3>;t=\"a\\\"b\\\\c\",<coap://h/x>"
        );
        assert_eq!(paths(&text).unwrap(), ["/", "/65535/0/5700", "/device/3", "coap://h/x"]);
    }
}
