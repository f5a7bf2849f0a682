//! Arguments of an Execute (LwM2M Core 1.2.1 §6.3.5).
//!
//! Invariant: the text obeys the grammar `digit` or `digit='characters'`, separated by commas, each digit once; or it is one
//! argument as the examples of the specification write it into a query, `digit=characters`.

use crate::Error;

/// The arguments of an Execute: up to ten, named by a digit, with or without a value.
///
/// ```
/// use lwm2m_objects::Arguments;
/// let arguments = Arguments::parse(b"0,2='10.3'").unwrap();
/// assert!(arguments.iter().eq([(0, None), (2, Some("10.3"))]));
/// assert_eq!(arguments.value(2), Some("10.3"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arguments<'a>(&'a str);

impl<'a> Arguments<'a> {
    /// No arguments.
    pub const NONE: Self = Self("");

    /// Checks the grammar.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for anything else than the grammar.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        Self::checked(payload, false)
    }

    /// Checks the grammar of a query, where quotes may be left out around the value of a single argument.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_query(query: &'a [u8]) -> Result<Self, Error> {
        Self::checked(query, true)
    }

    fn checked(text: &'a [u8], is_query: bool) -> Result<Self, Error> {
        let text = core::str::from_utf8(text).map_err(|_| Error::BadRequest)?;
        let mut seen = 0_u16;
        let mut rest = text;
        while !rest.is_empty() {
            let may_be_bare = is_query && rest.len() == text.len();
            if Self(rest).is_bare() && !may_be_bare {
                return Err(Error::BadRequest);
            }
            let (digit, _, after) = argument(rest).ok_or(Error::BadRequest)?;
            let bit = 1_u16 << digit;
            // LwM2M Core 1.2.1 §6.3.5: each digit once.
            if seen & bit != 0 {
                return Err(Error::BadRequest);
            }
            seen |= bit;
            rest = match after.strip_prefix(',') {
                None if after.is_empty() => after,
                Some(next) if !next.is_empty() => next,
                _ => return Err(Error::BadRequest),
            };
        }
        Ok(Self(text))
    }

    /// Iterates over digit and value.
    pub fn iter(&self) -> impl Iterator<Item = (u8, Option<&'a str>)> + use<'a> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (digit, value, after) = argument(rest)?;
            rest = after.strip_prefix(',').unwrap_or_default();
            Some((digit, value))
        })
    }

    /// Returns the value of an argument; one without a value is found by [`iter`](Self::iter) only.
    pub fn value(&self, digit: u8) -> Option<&'a str> {
        self.iter().find(|(name, _)| *name == digit).and_then(|(_, value)| value)
    }

    /// Returns the text as it is sent.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// Tells whether it is one argument without quotes around its value, as a query has it.
    pub(crate) fn is_bare(&self) -> bool {
        self.0.get(1..).is_some_and(|after| after.starts_with('=') && !after.starts_with("='"))
    }
}

/// Splits `2='10.3'` off: digit, value, rest. A value without quotes goes on to the end.
fn argument(text: &str) -> Option<(u8, Option<&str>, &str)> {
    let (digit @ b'0'..=b'9', after) = (*text.as_bytes().first()?, text.get(1..)?) else { return None };
    let digit = digit.wrapping_sub(b'0');
    let Some(value) = after.strip_prefix('=') else { return Some((digit, None, after)) };
    let (value, rest) = match value.strip_prefix('\'') {
        Some(quoted) => quoted.split_once('\'')?,
        None => (value, ""),
    };
    let allowed = |byte| matches!(byte, 0x21 | 0x23..=0x26 | 0x28..=0x5b | 0x5d..=0x7e);
    value.bytes().all(allowed).then_some((digit, Some(value), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_the_grammar_allows_are_taken() {
        for text in ["", "5", "2='10.3'", "0,1,2,3,4", "7,0='https://www.omaspecworks.org'", "0=''"] {
            assert_eq!(Arguments::parse(text.as_bytes()).map(|arguments| arguments.as_str()), Ok(text));
        }
        assert_eq!(Arguments::parse(b"7,0='U'").map(|arguments| arguments.value(0)), Ok(Some("U")));
    }

    #[test]
    fn arguments_that_the_grammar_does_not_allow_are_refused() {
        for text in
            ["10", "0='a'b", "0=5", "5,", ",5", "5,,6", "5,5", "a", "0='", "0='a b'", "0='\u{e9}'", "0='a\\'"]
        {
            assert_eq!(Arguments::parse(text.as_bytes()), Err(Error::BadRequest), "{text}");
        }
        assert_eq!(Arguments::parse(&[0xff]), Err(Error::BadRequest));
    }

    #[test]
    fn a_query_may_leave_out_the_quotes_of_a_single_argument() {
        // The examples of the specification have `?0=U`.
        for (query, value) in [("0=U", Some("U")), ("0='U'", Some("U")), ("0", None), ("1,0='U'", Some("U"))]
        {
            let arguments = Arguments::parse_query(query.as_bytes()).unwrap_or_default();
            assert_eq!((arguments.as_str(), arguments.value(0)), (query, value));
        }
        for query in ["U", "00=U", "1,0=U", "0='U", "0=a b", "0=a'b'", "pmin=5"] {
            assert_eq!(Arguments::parse_query(query.as_bytes()), Err(Error::BadRequest), "{query}");
        }
    }
}
