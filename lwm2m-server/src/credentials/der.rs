//! The encoding of certificates and keys, as far as they are read and made here (X.690 §10; invariant: bytes of a peer are never
//! indexed, and what is not DER is `None`).

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// One element: its tag, its content, and all of it.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) whole: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn element(&mut self) -> Option<Element<'a>> {
        let from = self.0;
        let (&[tag, first], rest) = from.split_first_chunk::<2>()?;
        // No tag in use here has more than a byte.
        (tag & 0x1f != 0x1f).then_some(())?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => {
                let (length, rest) = rest.split_first()?;
                (usize::from(*length), rest)
            }
            0x82 => {
                let (length, rest) = rest.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            _ => return None,
        };
        // The shortest form of a length is the only one.
        let is_short = match first {
            0x81 => length >= 0x80,
            0x82 => length >= 0x100,
            _ => true,
        };
        is_short.then_some(())?;
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = from.get(..from.len().checked_sub(rest.len())?)?;
        self.0 = rest;
        Some(Element { tag, content, whole })
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.element().filter(|element| element.tag == tag)
    }

    /// The next element, if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.expect(tag)?;
        *self = ahead;
        Some(element)
    }
}

/// The elements in this content; what cannot be read ends them.
pub(super) fn elements(content: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let mut reader = Reader::new(content);
    core::iter::from_fn(move || reader.element())
}

/// Writes an element of these parts; of 65,535 bytes at most, as everything that is made here.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head = match length {
        [0, length @ 0..=0x7f] => vec![tag, length],
        [0, length] => vec![tag, 0x81, length],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}

/// The one element that these bytes are.
pub(super) fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(tag)?;
    reader.is_empty().then_some(element.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form_and_end_where_they_say() {
        for (bytes, length) in [
            (&[0x30, 0x00][..], Some(0)),
            (&[0x04, 0x02, 1, 2], Some(2)),
            (&[0x04, 0x02, 1], None),
            (&[0x04, 0x81, 0x02, 1, 2], None),
            (&[0x04, 0x82, 0x00, 0x02, 1, 2], None),
            (&[0x04, 0x80, 0, 0], None),
            (&[0x04, 0x84, 0, 0, 0, 0], None),
            (&[0x1f, 0x01, 0], None),
            (&[0x04], None),
            (&[], None),
        ] {
            let found = Reader::new(bytes).element().map(|element| element.content.len());
            assert_eq!(found, length, "{bytes:02x?}");
        }
        let long = [&[0x04, 0x81, 0x80][..], &[7; 128]].concat();
        assert_eq!(only(&long, OCTET_STRING).map(<[u8]>::len), Some(128));
        assert_eq!(only(&[&long[..], &[0]].concat(), OCTET_STRING), None);
    }
}
