//! Who may do what over HTTP: roles with their permissions, and the devices that a token is good for.
//!
//! | role | may |
//! |---|---|
//! | viewer | look: devices, what is read of them, events, audit log, metrics; never a secret |
//! | operator | look, and change what devices have and do, by campaigns too |
//! | security officer | look, and change credentials, by campaigns too, and what bootstraps write |
//! | administrator | everything, tokens, object definitions and backups too |
//!
//! Invariant: no answer tells whether a device exists that the token is not good for.

mod tokens;

use core::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Type};

pub use tokens::Tokens;
pub(crate) use tokens::{Denied, Token, TokenError, Wanted};

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Look at devices, their values, events and the audit log.
    View,
    /// Change what devices have and do.
    Operate,
    /// Change the credentials of devices, and what bootstraps write.
    Credentials,
    /// Make campaigns, decide over them, and change groups: what a campaign does takes its own permission besides.
    Campaigns,
    /// Change tokens and object definitions, make backups.
    Administer,
}

impl Permission {
    /// Its name in answers and in the OpenAPI document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Credentials => "credentials",
            Self::Campaigns => "campaigns",
            Self::Administer => "administer",
        }
    }

    /// The roles that have it.
    #[must_use]
    pub const fn roles(self) -> &'static [TokenRole] {
        match self {
            Self::View => &TokenRole::ALL,
            Self::Operate => &[TokenRole::Operator, TokenRole::Administrator],
            Self::Credentials => &[TokenRole::SecurityOfficer, TokenRole::Administrator],
            Self::Campaigns => &[TokenRole::Operator, TokenRole::SecurityOfficer, TokenRole::Administrator],
            Self::Administer => &[TokenRole::Administrator],
        }
    }
}

/// What the holder of a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenRole {
    /// Only looks.
    Viewer,
    /// Acts on devices.
    Operator,
    /// Decides who devices are.
    SecurityOfficer,
    /// Does everything.
    Administrator,
}

impl TokenRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::SecurityOfficer, Self::Administrator];

    /// Its name in records and requests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::SecurityOfficer => "security-officer",
            Self::Administrator => "administrator",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Whether it has a permission.
    #[must_use]
    pub fn may(self, permission: Permission) -> bool {
        permission.roles().contains(&self)
    }
}

impl fmt::Display for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The devices that a token is good for: all, or those whose endpoint names fit one of its patterns, in which `*` stands for any
/// run of characters, also for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Option<Vec<String>>", into = "Option<Vec<String>>")]
pub struct Scope(Option<Arc<[String]>>);

impl Scope {
    /// The most patterns of one token.
    pub const MOST_PATTERNS: usize = 64;
    /// Longest pattern in bytes: as an endpoint name.
    pub const LONGEST_PATTERN: usize = 255;

    /// Whether it has all devices, and so what concerns them all.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it has a device.
    #[must_use]
    pub fn has(&self, endpoint: &str) -> bool {
        self.0.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| fits(pattern, endpoint)))
    }

    /// Whether it has every device that `other` may have.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match &other.0 {
            None => self.is_all(),
            // What stands for a `*` of the other can only be a `*` here, which takes in whatever that stands for.
            Some(patterns) => patterns.iter().all(|pattern| self.has(pattern)),
        }
    }
}

impl utoipa::PartialSchema for Scope {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let pattern =
            ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
        let patterns = ArrayBuilder::new().items(pattern).min_items(Some(1)).max_items(Some(64));
        patterns
            .description(Some("Patterns of endpoint names, in which `*` stands for any run of characters."))
            .into()
    }
}

impl utoipa::ToSchema for Scope {}

impl TryFrom<Option<Vec<String>>> for Scope {
    type Error = String;

    fn try_from(patterns: Option<Vec<String>>) -> Result<Self, String> {
        let Some(patterns) = patterns else { return Ok(Self(None)) };
        // None at all would be easily taken for none wanted.
        if !(1..=Self::MOST_PATTERNS).contains(&patterns.len()) {
            return Err(format!("scope: 1 to {} patterns; all devices without a scope", Self::MOST_PATTERNS));
        }
        let is_usable = |pattern: &String| {
            (1..=Self::LONGEST_PATTERN).contains(&pattern.len()) && !pattern.chars().any(char::is_control)
        };
        match patterns.iter().find(|pattern| !is_usable(pattern)) {
            None => Ok(Self(Some(patterns.into()))),
            Some(pattern) => Err(format!(
                "scope: {pattern:?} is no pattern: 1 to {} bytes without control characters",
                Self::LONGEST_PATTERN
            )),
        }
    }
}

impl From<Scope> for Option<Vec<String>> {
    fn from(Scope(patterns): Scope) -> Self {
        patterns.map(|patterns| patterns.to_vec())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("all devices"),
            Some(patterns) => f.write_str(&patterns.join(", ")),
        }
    }
}

/// Each part between two `*` is looked for behind the one before it: the first place leaves most for what follows.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(patterns: &[&str]) -> Scope {
        Some(patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()).try_into().unwrap()
    }

    /// The definition, which tries everything.
    fn fits_by_trying(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                (0..=name.len()).any(|taken| fits_by_trying(rest, name.get(taken..).unwrap()))
            }
            ([first, pattern @ ..], [one, name @ ..]) => first == one && fits_by_trying(pattern, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_any_run_of_characters(pattern in "[ab*]{0,6}", name in "[abü*]{0,8}") {
            let [whole, of] = [&pattern, &name].map(|text| text.chars().collect::<Vec<_>>());
            prop_assert_eq!(fits(&pattern, &name), fits_by_trying(&whole, &of));
        }

        #[test]
        fn a_scope_covers_another_when_it_has_all_its_devices(
            wide in "[ab*]{1,4}", narrow in "[ab*]{1,4}", runs in prop::collection::vec("[ab]{0,3}", 4),
        ) {
            // One of the names that the narrow one has.
            let mut runs = runs.into_iter().cycle();
            let name: String = narrow
                .chars()
                .map(|each| if each == '*' { runs.next().unwrap() } else { each.to_string() })
                .collect();
            let [wide, narrow] = [scope(&[&wide]), scope(&[&narrow])];
            prop_assert!(narrow.has(&name));
            prop_assert!(!wide.covers(&narrow) || wide.has(&name));
        }
    }

    #[test]
    fn no_scope_covers_more_than_it_has() {
        let all = Scope::default();
        let meters = scope(&["meter-*", "pump-1"]);
        assert!(all.covers(&all) && all.covers(&meters) && !meters.covers(&all));
        assert!(meters.covers(&scope(&["meter-1*", "meter-*-b", "pump-1"])));
        for wider in [&["*"][..], &["meter*"], &["meter-1", "pump-*"], &["pump-2"], &["*meter-"]] {
            assert!(!meters.covers(&scope(wider)), "{wider:?}");
        }
        assert!(scope(&["*a*b*"]).covers(&scope(&["a*b"])) && !scope(&["a*b"]).covers(&scope(&["*a*b*"])));
    }

    #[test]
    fn an_empty_scope_is_refused_for_it_could_be_taken_for_all() {
        let long = "a".repeat(Scope::LONGEST_PATTERN.saturating_add(1));
        for bad in [vec![], vec![String::new()], vec!["a\n".to_owned()], vec![long]] {
            assert!(Scope::try_from(Some(bad)).is_err());
        }
    }

    #[test]
    fn roles_have_what_their_work_takes_and_no_more() {
        use Permission::{Administer, Campaigns, Credentials, Operate, View};
        let permissions = [View, Operate, Credentials, Campaigns, Administer];
        for (role, may) in [
            (TokenRole::Viewer, [true, false, false, false, false]),
            (TokenRole::Operator, [true, true, false, true, false]),
            (TokenRole::SecurityOfficer, [true, false, true, true, false]),
            (TokenRole::Administrator, [true; 5]),
        ] {
            assert_eq!(permissions.map(|permission| role.may(permission)), may, "{role}");
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
    }
}
