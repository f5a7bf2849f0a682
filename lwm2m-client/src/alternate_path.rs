//! The alternate path: where all objects of the device lie when that is not the root (LwM2M Core 1.1.1 §6.2.1).
//!
//! Invariant: it is written in links, names and URIs as it is, and no segment can be taken for an object.

/// A path that stands before that of every object towards management servers, such as `/lwm2m`; bootstrap servers know of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlternatePath<'a>(&'a str);

impl<'a> AlternatePath<'a> {
    /// Reads a path of one or more segments, each behind a slash: letters, digits, hyphens, dots and underscores, not digits alone; at
    /// most 64 bytes.
    pub fn parse(text: &'a str) -> Option<Self> {
        let is_segment = |segment: &str| {
            segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                && !segment.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        };
        let is_path = text.len() <= 64 && text.strip_prefix('/')?.split('/').all(is_segment);
        is_path.then_some(Self(text))
    }

    /// The path, with the slash that it begins with.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alternate_path_has_segments_that_are_no_objects() {
        for text in ["/lwm2m", "/a/b-1", "/v1.0", "/3_0"] {
            assert_eq!(AlternatePath::parse(text).map(|path| path.as_str()), Some(text));
        }
        // Dots alone would be resolved away (RFC 3986 §5.2.4).
        for text in ["", "/", "lwm2m", "/a/", "/a//b", "/3", "/lwm2m/3", "/..", "/a b", "/a?b", "/ä", "/a>"]
        {
            assert_eq!(AlternatePath::parse(text), None, "{text}");
        }
        let long = std::format!("/{}", "a".repeat(63));
        assert!(AlternatePath::parse(&long).is_some());
        assert_eq!(AlternatePath::parse(&(long + "a")), None);
    }
}
