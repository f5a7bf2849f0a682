//! Variables of profiles: `${name}` in a text stands for what a device has under that name.
//!
//! `${endpoint}` is the endpoint name of the device. `$${` stands for `${` itself. Secret variables are keys: no text has one.
//!
//! Invariants: number and length are bounded; what is secret is wiped when dropped and shown by nothing.

use core::fmt;
use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::credentials::{Key, MIN_KEY};

/// The variable that every device has.
pub(super) const ENDPOINT: &str = "endpoint";
/// The most variables of a device, and the most secret ones.
pub(super) const MOST: usize = 32;
/// The longest value in bytes.
pub(super) const LONGEST: usize = 255;

/// The values of the variables of a device, by their names.
pub type Variables = BTreeMap<String, String>;

/// The secret variables of a device, by their names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, Key>);

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Text(&'t str),
    Variable(&'t str),
}

impl Secrets {
    /// Keeps a key under a name, in the place of a former one.
    pub fn insert(&mut self, name: String, key: Key) {
        self.0.insert(name, key);
    }

    /// Keeps 16 zero bytes under each name that has no key: what is looked at before there are any.
    pub(crate) fn stand_in<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        for name in names.filter(|name| self.get(name).is_none()).map(str::to_owned).collect::<Vec<_>>() {
            self.0.extend(Key::new(vec![0; MIN_KEY]).ok().map(|key| (name, key)));
        }
    }

    /// Finds a key.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Key> {
        self.0.get(name)
    }

    /// The names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in those of another one, in the places of former ones.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Keeps those with these names alone.
    pub(crate) fn retain(&mut self, is_needed: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_needed(name));
    }

    /// As it is sealed: of each the name and the key, each behind its length.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let room = self.0.iter().map(|(name, key)| name.len().saturating_add(key.bytes().len()));
        let room = room.fold(0_usize, |room, each| room.saturating_add(each).saturating_add(2));
        // All the room at once: what grows leaves a copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        for (name, key) in &self.0 {
            for part in [name.as_bytes(), key.bytes()] {
                // Neither is longer: 32 and 64 bytes.
                bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let part = |bytes: &[u8]| {
            let (length, rest) = bytes.split_first()?;
            let (part, rest) = rest.split_at_checked(usize::from(*length))?;
            Some((part.to_vec(), rest.len()))
        };
        let mut secrets = Self::default();
        while !bytes.is_empty() {
            let mut next = || {
                let (part, left) = part(bytes)?;
                bytes = bytes.get(bytes.len().checked_sub(left)?..)?;
                Some(part)
            };
            let (name, key) = (next()?, next()?);
            secrets.insert(String::from_utf8(name).ok()?, Key::new(key).ok()?);
        }
        Some(secrets)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// The parts of a text.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn pieces(mut text: &str) -> Result<Vec<Piece<'_>>, &'static str> {
    let mut pieces = Vec::new();
    while let Some((before, rest)) = text.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            pieces.extend([Piece::Text(before), Piece::Text("${")]);
            text = rest;
            continue;
        }
        let (name, rest) = rest.split_once('}').ok_or("a variable without its end: ${name}")?;
        if !is_name(name) {
            return Err("the name of a variable is 1 to 32 of a to z, 0 to 9 and _: ${name}");
        }
        pieces.extend([Piece::Text(before), Piece::Variable(name)]);
        text = rest;
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

/// The name of the one variable that a text consists of.
pub(super) fn alone(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    is_name(name).then_some(name)
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A text with the values in their places.
///
/// # Errors
/// The name of the variable that has none.
pub(super) fn fill<'t>(text: &'t str, endpoint: &str, variables: &Variables) -> Result<String, &'t str> {
    let mut filled = String::new();
    // Its form was looked at when the profile was made.
    for piece in pieces(text).unwrap_or_default() {
        filled.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Variable(ENDPOINT) => endpoint,
            Piece::Variable(name) => variables.get(name).ok_or(name)?,
        });
    }
    Ok(filled)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables() -> Variables {
        [("site", "kiel"), ("host_2", "${site}")].map(|(name, value)| (name.into(), value.into())).into()
    }

    #[test]
    fn a_variable_stands_for_its_value_which_is_not_looked_at_again() {
        for (text, filled) in [
            ("coaps://${site}.example", "coaps://kiel.example"),
            ("${endpoint}@${host_2}", "m-1@${site}"),
            ("$${site} costs $5 {a}", "${site} costs $5 {a}"),
            ("", ""),
            ("$", "$"),
        ] {
            assert_eq!(fill(text, "m-1", &variables()).unwrap(), filled, "{text}");
        }
        assert_eq!(fill("${site}${other}", "m-1", &variables()), Err("other"));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in ["${", "${a", "${}", "${A}", "${a b}", "x${a-b}", &format!("${{{}}}", "a".repeat(33))] {
            assert!(pieces(text).is_err(), "{text}");
        }
        assert_eq!((alone("${key}"), alone("${key}x"), alone("${a}${b}")), (Some("key"), None, None));
    }

    #[test]
    fn secrets_are_read_as_they_were_written_whole_or_not_at_all() {
        let mut secrets = Secrets::default();
        secrets.insert("one".to_owned(), Key::new(vec![1; 16]).unwrap());
        secrets.insert("two".to_owned(), Key::new(vec![2; 64]).unwrap());
        let bytes = secrets.to_bytes();
        assert_eq!(Secrets::from_bytes(&bytes), Some(secrets.clone()));
        assert_eq!(format!("{secrets:?}"), r#"{"one", "two"}"#);
        let whole = [0, 4 + 17, bytes.len()];
        for length in (0..=bytes.len()).filter(|length| !whole.contains(length)) {
            assert_eq!(Secrets::from_bytes(&bytes[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_filled_or_refused(text in "[$ {}a_]{0,12}") {
            if let Ok(pieces) = pieces(&text) {
                let names = pieces.iter().filter(|piece| matches!(piece, Piece::Variable(_))).count();
                prop_assert!(names > 0 || fill(&text, "m-1", &Variables::new()).is_ok());
            }
        }
    }
}
