//! Groups, and which devices a campaign takes of what was selected.
//!
//! Invariant: nothing is told of a device that who asks is not for, not even whether it exists.

use core::fmt;
use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::record::{Action, CampaignDevice, DeviceState, Outcome, Selection};
use crate::access::Scope;
use crate::credentials::{Credentials, Device};

/// Devices under one name: these, or those whose names fit a pattern whenever they are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Endpoint names.
    Names(Vec<String>),
    /// Patterns, in which `*` stands for any run of characters.
    Patterns(Scope),
}

impl Group {
    /// The most names of a group, or of a list of names.
    pub const MOST_NAMES: usize = 50_000;

    /// Whether it has no devices but those of a scope.
    #[must_use]
    pub fn is_within(&self, scope: &Scope) -> bool {
        match self {
            Self::Names(names) => names.iter().all(|name| scope.has(name)),
            Self::Patterns(patterns) => scope.covers(patterns),
        }
    }

    /// Refuses what nobody can mean.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let is_usable = |name: &String| {
            (1..=Scope::LONGEST_PATTERN).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        match self {
            Self::Patterns(patterns) if patterns.is_all() => {
                Err("patterns: at least one; [\"*\"] has all devices".to_owned())
            }
            Self::Names(names) if !(1..=Self::MOST_NAMES).contains(&names.len()) => {
                Err(format!("names: 1 to {}", Self::MOST_NAMES))
            }
            Self::Names(names) => match names.iter().find(|name| !is_usable(name)) {
                Some(name) => {
                    Err(format!("{name:?} is no endpoint name: 1 to 255 bytes without control characters"))
                }
                None => Ok(()),
            },
            Self::Patterns(_) => Ok(()),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(names) => write!(f, "{} names", names.len()),
            Self::Patterns(patterns) => patterns.fmt(f),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(name) => write!(f, "group {name}"),
            Self::Names(names) => write!(f, "{} names", names.len()),
            Self::Patterns(patterns) => patterns.fmt(f),
        }
    }
}

/// What is taken of a selection, and what is left out, and why.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Those that take part.
    pub taken: Vec<Arc<str>>,
    /// Those that are left out, and why.
    pub skipped: Vec<(Arc<str>, String)>,
}

impl Selected {
    /// Chooses among the devices of `scope`. `registered` is by name.
    #[must_use]
    pub fn choose(
        group: &Group,
        scope: &Scope,
        action: &Action,
        credentials: &Credentials,
        registered: &[Arc<str>],
    ) -> Self {
        let names = match group {
            Group::Names(names) => names.iter().map(|name| name.as_str().into()).collect(),
            Group::Patterns(patterns) => {
                let mut names: Vec<Arc<str>> =
                    credentials.devices().iter().map(|device| device.endpoint.as_str().into()).collect();
                // Without an account there is nothing to rotate.
                if !matches!(action, Action::Rotate(_)) {
                    names.extend_from_slice(registered);
                }
                names.retain(|name| patterns.has(name) && scope.has(name));
                names.sort_unstable();
                names.dedup();
                shuffle(&mut names);
                names
            }
        };
        let (mut selected, mut seen) = (Self::default(), HashSet::new());
        for name in names {
            if !seen.insert(Arc::clone(&name)) {
                continue;
            }
            let why = if scope.has(&name) {
                let is_registered = registered.binary_search(&name).is_ok();
                may_take(action, credentials.device(&name).as_deref(), is_registered).err()
            } else {
                Some(format!("it is none of the devices that the token is for: {scope}"))
            };
            match why {
                None => selected.taken.push(name),
                Some(why) => selected.skipped.push((name, why)),
            }
        }
        selected
    }

    /// The devices of a campaign, those that take part first.
    #[must_use]
    pub fn devices(self, now_ms: u64) -> Vec<CampaignDevice> {
        let taken = self.taken.into_iter().map(|endpoint| CampaignDevice { endpoint, outcomes: Vec::new() });
        let skipped = self.skipped.into_iter().map(|(endpoint, reason)| CampaignDevice {
            endpoint,
            outcomes: vec![Outcome {
                round: 0,
                state: DeviceState::Skipped,
                reason: Some(reason),
                started_ms: now_ms,
                ended_ms: Some(now_ms),
                request: None,
            }],
        });
        taken.chain(skipped).collect()
    }
}

/// Whether something can be done with a device at all: asked when a campaign is made, and again when the device is started.
pub(super) fn may_take(action: &Action, device: Option<&Device>, is_registered: bool) -> Result<(), String> {
    match (action, device) {
        (Action::Rotate(_), None) => Err("it was never enrolled".to_owned()),
        (Action::Rotate(_), Some(device)) => device.may_rotate().map(drop).map_err(str::to_owned),
        (_, Some(device)) => device.is_held().map_err(|refusal| format!("it is {refusal}")),
        (_, None) if is_registered => Ok(()),
        (_, None) => Err("it is neither registered nor enrolled".to_owned()),
    }
}

/// Draws an order (Fisher and Yates): names in theirs may have the devices of one batch first. Without randomness it is left as it is.
fn shuffle(names: &mut [Arc<str>]) {
    for at in (1..names.len()).rev() {
        let mut drawn = [0; 8];
        if getrandom::fill(&mut drawn).is_err() {
            return;
        }
        let of = u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1);
        let with = u64::from_be_bytes(drawn).checked_rem(of).unwrap_or_default();
        names.swap(at, usize::try_from(with).unwrap_or(at));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;
    use crate::campaigns::record::Rotation;
    use crate::credentials::{Enrol, EnrolAccount, KeyMaterial, Mode, Role, Settings};
    use crate::store::{RedbStore, Sealer};

    fn scope(patterns: &[&str]) -> Scope {
        Some(patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()).try_into().unwrap()
    }

    fn credentials() -> Credentials {
        let store = RedbStore::in_memory(Sealer::new(&[1; 32], "test").unwrap()).unwrap();
        let credentials = Credentials::open(Arc::new(store), Settings::default()).unwrap();
        for name in ["meter-1", "meter-2", "meter-3", "pump-1"] {
            let key = KeyMaterial::Generate(Mode::Psk);
            let accounts = vec![EnrolAccount { role: Role::Bootstrap, key }];
            credentials.enrol(1, "test", name, &Enrol { accounts, ..Enrol::default() }).unwrap();
        }
        credentials.suspend(1, "test", "meter-2", "").unwrap();
        credentials
    }

    #[test]
    fn a_pattern_takes_the_devices_of_the_token_and_leaves_out_those_that_are_held() {
        let credentials = credentials();
        let execute = Action::Execute { path: "/3/0/4".to_owned() };
        let registered: Vec<Arc<str>> = vec!["meter-9".into(), "pump-1".into()];
        let choose = |group: &Group, scope: &Scope| {
            let mut selected = Selected::choose(group, scope, &execute, &credentials, &registered);
            selected.taken.sort_unstable();
            selected
        };
        let all = Group::Patterns(scope(&["*"]));
        let chosen = choose(&all, &Scope::default());
        assert_eq!(
            chosen.taken.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["meter-1", "meter-3", "meter-9", "pump-1"]
        );
        assert_eq!(chosen.skipped, [("meter-2".into(), "it is suspended".to_owned())]);
        let pumps = choose(&all, &scope(&["pump-*"]));
        assert_eq!((pumps.taken.len(), pumps.skipped.len()), (1, 0));
    }

    #[test]
    fn of_a_device_of_others_is_told_the_same_as_of_one_that_is_not_there() {
        let credentials = credentials();
        let execute = Action::Execute { path: "/3/0/4".to_owned() };
        let names = Group::Names(["meter-1", "pump-1", "pump-2", "meter-1"].map(str::to_owned).to_vec());
        let selected = Selected::choose(&names, &scope(&["meter-*"]), &execute, &credentials, &[]);
        assert_eq!(selected.taken, [Arc::from("meter-1")], "and once alone");
        let reasons: Vec<&str> = selected.skipped.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(reasons, ["it is none of the devices that the token is for: meter-*"; 2]);
    }

    #[test]
    fn what_cannot_be_rotated_is_left_out_with_the_reason() {
        let credentials = credentials();
        let rotate = Action::Rotate(Rotation::default());
        let names = Group::Names(["meter-1", "meter-2", "other"].map(str::to_owned).to_vec());
        let selected = Selected::choose(&names, &Scope::default(), &rotate, &credentials, &[]);
        assert!(selected.taken.is_empty());
        let reasons: Vec<&str> = selected.skipped.iter().map(|(_, why)| why.as_str()).collect();
        for (reason, part) in reasons.iter().zip(["never proven", "is suspended", "never enrolled"]) {
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn a_group_is_seen_by_who_is_for_all_of_it() {
        let names = Group::Names(vec!["meter-1".into(), "pump-1".into()]);
        assert!(names.is_within(&Scope::default()) && !names.is_within(&scope(&["meter-*"])));
        let meters = Group::Patterns(scope(&["meter-1*"]));
        assert!(meters.is_within(&scope(&["meter-*"])) && !meters.is_within(&scope(&["meter-11"])));
        for bad in [
            Group::Names(Vec::new()),
            Group::Names(vec!["a\n".to_owned()]),
            Group::Names(vec![String::new()]),
            Group::Patterns(Scope::default()),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
