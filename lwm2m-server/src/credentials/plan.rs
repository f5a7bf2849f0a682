//! The bootstrap plan: what a bootstrap writes and deletes (LwM2M Core §6.1; objects `/0`, `/1` and `/21`).
//!
//! An account is the pair of a `/0` and a `/1` instance with the same Short Server ID, with the `/21` instance that `/0` links. A plan
//! has that of this server, perhaps those of others, and steps that write and delete elsewhere.
//!
//! Invariants: the bootstrap account's own `/0` instance, and its `/21` instance, are never a target where a Discover showed them; what
//! is written blind goes to the instances that are planned. No two accounts share an instance.

use core::fmt;
use std::borrow::Cow;
use std::sync::Arc;

use lwm2m_objects::{Format, ObjectLink};
use zeroize::Zeroizing;

use crate::profiles::WriteBy;
use crate::{Path, Value};

/// What a bootstrap has to do, and which credential that delivers.
#[derive(Clone, Debug)]
pub struct BootstrapPlan {
    /// The device.
    pub endpoint: Arc<str>,
    /// The generation of the management credential it writes; 0 when the account has no security.
    pub generation: u32,
    /// Write without a Discover, which this device answers wrongly.
    pub is_blind: bool,
    /// The account of this server.
    pub account: ServerAccount,
    /// Those of other servers.
    pub further: Vec<ServerAccount>,
    /// Whether the bootstrap account has a `/21` instance too.
    pub is_under_oscore: bool,
    /// Whether the time of the write is written to `/3/0/13`.
    pub writes_time: bool,
    /// Whether it ends with a Discover that must show the accounts written.
    pub is_verified: bool,
    /// How much goes into one request.
    pub write_by: WriteBy,
    /// The content format to write in; without, the one that the device asks for.
    pub format: Option<Format>,
    /// What is done after the first Discover; the account of this server is written and nothing else where it is empty.
    pub steps: Vec<BootstrapStep>,
}

/// What is written of the account of one server.
#[derive(Clone, Debug, Default)]
pub struct ServerAccount {
    /// Short Server ID, 1 to 65534.
    pub short_server_id: u16,
    /// `/0` instance to write when a Discover does not say otherwise; the lowest free one without.
    pub security_instance: Option<u16>,
    /// `/1` instance to write when a Discover does not say otherwise; the lowest free one without.
    pub server_instance: Option<u16>,
    /// Resources of the `/0` instance in ascending order.
    pub security: Vec<(u16, Setting)>,
    /// Resources of the `/21` instance in ascending order; empty where the account has none.
    pub oscore: Vec<(u16, Setting)>,
    /// Resources of the `/1` instance in ascending order.
    pub server: Vec<(u16, Setting)>,
}

/// One step of a bootstrap that does more than to write the account of this server: by a profile
/// ([`Credentials::assign`](super::Credentials::assign)), or by an application
/// ([`Credentials::set_bootstrap_steps`](super::Credentials::set_bootstrap_steps)).
#[derive(Clone, PartialEq)]
pub enum BootstrapStep {
    /// Writes the account of this server.
    Account,
    /// Writes the accounts of other servers.
    Further,
    /// Bootstrap-Discover of everything.
    Discover,
    /// Bootstrap-Read of `/1` or `/2`, or an instance of them.
    Read(Path),
    /// Bootstrap-Delete of an object or instance, as it is.
    Delete(Path),
    /// Bootstrap-Delete of what the device has of an object or instance, the bootstrap account left out.
    Clear(Path),
    /// Bootstrap-Write of values at or below a path.
    Write(Path, Arc<[(Path, Value)]>),
}

/// What a Bootstrap-Discover showed: instances with their Short Server ID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Instances of `/0`; the one without an id is the bootstrap account.
    pub security: Vec<(u16, Option<u16>)>,
    /// Instances of `/1`.
    pub server: Vec<(u16, Option<u16>)>,
    /// Instances of `/21`; some devices show no ids of them.
    pub oscore: Vec<(u16, Option<u16>)>,
    /// Other objects, and their instances.
    pub others: Vec<Path>,
    /// Some of it could not be read.
    pub is_cut: bool,
}

/// An instance of the account of a server, at its place on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountInstance {
    /// Whose account it is: 0 that of this server, from 1 on those of others.
    account: usize,
    /// Object id, 0, 1 or 21.
    pub object: u16,
    /// Object instance id.
    pub instance: u16,
    /// The `/21` instance that it links.
    oscore: Option<u16>,
}

/// The value of one resource.
#[derive(Clone, PartialEq, Eq)]
pub enum Setting {
    /// String.
    Text(String),
    /// Integer.
    Integer(i64),
    /// Boolean.
    Boolean(bool),
    /// Object link: object and instance.
    Link(u16, u16),
    /// Opaque; the secret key is one, so none of them is shown by `Debug`.
    Opaque(Zeroizing<Vec<u8>>),
}

impl BootstrapPlan {
    /// The steps after the first Discover.
    #[must_use]
    pub fn steps(&self) -> &[BootstrapStep] {
        if self.steps.is_empty() { &[BootstrapStep::Account] } else { &self.steps }
    }

    /// The accounts, that of this server first.
    pub fn accounts(&self) -> impl Iterator<Item = &ServerAccount> {
        core::iter::once(&self.account).chain(&self.further)
    }

    /// The instances of each account in the order to write them: `/0`, then `/21` if there is one, then `/1`.
    ///
    /// An account goes where its Short Server ID already is, else to the planned instance, else to the lowest free
    /// one; never to the bootstrap account, and never to the place of another one.
    #[must_use]
    pub fn place(&self, found: &Discovered) -> Vec<Vec<AccountInstance>> {
        let least = u16::from(!found.shows_bootstrap_account());
        let [mut security, mut server, mut oscore] =
            [(&found.security, least), (&found.server, 0), (&found.oscore, 0)].map(|(found, least)| Places {
                found,
                least,
                given: Vec::new(),
            });
        let mut accounts = Vec::new();
        for (account, of) in self.accounts().enumerate() {
            let id = of.short_server_id;
            let place = security.place(id, of.security_instance);
            let beside =
                (!of.oscore.is_empty()).then(|| oscore.place_beside(id, place, self.is_under_oscore));
            let at = |object, instance| AccountInstance { account, object, instance, oscore: None };
            let mut instances = vec![AccountInstance { oscore: beside, ..at(0, place) }];
            instances.extend(beside.map(|instance| at(21, instance)));
            instances.push(at(1, server.place(id, of.server_instance)));
            accounts.push(instances);
        }
        accounts
    }

    /// What is written into an instance of an account: resource ids and values in ascending order.
    #[must_use]
    pub fn resources(&self, at: &AccountInstance) -> Cow<'_, [(u16, Setting)]> {
        let Some(account) = self.accounts().nth(at.account) else { return Cow::default() };
        match (at.object, at.oscore) {
            (0, Some(instance)) => {
                let link = (17, Setting::Link(21, instance));
                let behind = account.security.partition_point(|(resource, _)| *resource < 17);
                let mut security = account.security.clone();
                security.insert(behind, link);
                Cow::Owned(security)
            }
            (0, None) => Cow::Borrowed(&account.security),
            (21, _) => Cow::Borrowed(&account.oscore),
            _ => Cow::Borrowed(&account.server),
        }
    }
}

/// The instances of one object, as they are given to accounts.
struct Places<'d> {
    found: &'d [(u16, Option<u16>)],
    /// None below it is given without need.
    least: u16,
    given: Vec<u16>,
}

impl Places<'_> {
    fn place(&mut self, id: u16, planned: Option<u16>) -> u16 {
        let is_given = |instance: u16| self.given.contains(&instance);
        let known = self.found.iter().find(|(instance, of)| {
            *of == Some(id) && !is_given(*instance) && !self.found.contains(&(*instance, None))
        });
        let is_free =
            |instance: &u16| !is_given(*instance) && self.found.iter().all(|(found, _)| found != instance);
        let place = match known {
            Some((instance, _)) => *instance,
            // 65535 names nothing: a device that has no other one left refuses it.
            None => {
                planned.filter(is_free).or_else(|| (self.least..u16::MAX).find(is_free)).unwrap_or(u16::MAX)
            }
        };
        self.given.push(place);
        place
    }

    /// The `/21` instance of the account at a `/0` instance: that with the same Short Server ID, else the one with the number of the
    /// `/0` instance, which was written there before if the device shows no ids, else the lowest free one.
    fn place_beside(&mut self, id: u16, security: u16, is_under_oscore: bool) -> u16 {
        let of_others = usize::from(is_under_oscore);
        let nameless = self.found.iter().filter(|(_, id)| id.is_none()).count();
        let is_ours = self.found.contains(&(security, None)) && nameless > of_others;
        let has_id = self.found.iter().any(|(_, id)| id.is_some());
        if is_ours && !has_id {
            self.given.push(security);
            return security;
        }
        self.place(id, Some(security))
    }
}

impl Discovered {
    /// Whether it shows which instance of `/0` is the bootstrap account.
    #[must_use]
    pub fn shows_bootstrap_account(&self) -> bool {
        self.security.iter().any(|(_, id)| id.is_none())
    }

    /// What is to be deleted so that a device which showed this, or nothing, has none of an object or instance but what must stay.
    ///
    /// # Errors
    /// Why it cannot be told from the bootstrap account, in words.
    pub fn clear(found: Option<&Self>, path: Path) -> Result<Vec<Path>, &'static str> {
        let (object, instance) = match *path.ids() {
            [object] => (object, None),
            [object, instance, ..] => (object, Some(instance)),
            [] => return Err("the root holds the bootstrap account too"),
        };
        // LwM2M Core 1.2.1 §6.1.7.6: a device spares the bootstrap account itself. Not every device does.
        if matches!(object, 0 | 21) {
            let found = found
                .filter(|found| found.shows_bootstrap_account())
                .ok_or("without its bootstrap account, which nothing of /0 and /21 is deleted without")?;
            let known = if object == 0 { &found.security } else { &found.oscore };
            let is_spared = |instance: u16| known.contains(&(instance, None));
            if instance.is_some_and(is_spared) {
                return Err("with its bootstrap account at an instance that the profile deletes");
            }
            let mut doomed: Vec<Path> = known
                .iter()
                .filter(|(each, _)| !is_spared(*each) && instance.is_none_or(|instance| instance == *each))
                .map(|(each, _)| Path::instance(object, *each))
                .collect();
            doomed.sort_unstable();
            doomed.dedup();
            return Ok(doomed);
        }
        let may_be_there = found.is_none_or(|found| found.may_have(object, path));
        Ok(may_be_there.then_some(path).into_iter().collect())
    }

    /// Whether there is something at a path, as far as it was shown: devices refuse to delete what they do not have.
    fn may_have(&self, object: u16, path: Path) -> bool {
        let of_server = || self.server.iter().map(|(instance, _)| Path::instance(1, *instance));
        let is_shown = match object {
            1 => of_server().any(|shown| shown.starts_with(path)),
            _ => self.others.iter().any(|shown| shown.starts_with(path)),
        };
        // Some devices show accounts alone.
        let shows_all = !self.is_cut && (object == 1 || !self.others.is_empty());
        is_shown || !shows_all
    }

    /// What is known of it is gone.
    pub(crate) fn forget(&mut self, path: Path) {
        self.others.retain(|shown| !shown.starts_with(path));
        let known = match path.object_id() {
            Some(0) => &mut self.security,
            Some(1) => &mut self.server,
            Some(21) => &mut self.oscore,
            _ => return,
        };
        // Of a whole object the bootstrap account survives.
        known.retain(|(instance, id)| match path.instance_id() {
            Some(gone) => *instance != gone,
            None => path.object_id() != Some(1) && id.is_none(),
        });
    }
}

impl Setting {
    /// The same as a format encodes it.
    pub(crate) fn borrowed(&self) -> lwm2m_objects::Value<'_> {
        match self {
            Self::Text(text) => lwm2m_objects::Value::String(text),
            Self::Integer(value) => lwm2m_objects::Value::Integer(*value),
            Self::Boolean(value) => lwm2m_objects::Value::Boolean(*value),
            Self::Link(object, instance) => {
                lwm2m_objects::Value::ObjectLink(ObjectLink { object: *object, instance: *instance })
            }
            Self::Opaque(bytes) => lwm2m_objects::Value::Opaque(bytes),
        }
    }
}

impl fmt::Debug for BootstrapStep {
    // Values may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("Account"),
            Self::Further => f.write_str("Further"),
            Self::Discover => f.write_str("Discover"),
            Self::Read(path) => write!(f, "Read({path})"),
            Self::Delete(path) => write!(f, "Delete({path})"),
            Self::Clear(path) => write!(f, "Clear({path})"),
            Self::Write(path, values) => write!(f, "Write({path}, {} values)", values.len()),
        }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({text:?})"),
            Self::Integer(value) => write!(f, "Integer({value})"),
            Self::Boolean(value) => write!(f, "Boolean({value})"),
            Self::Link(object, instance) => write!(f, "Link({object}:{instance})"),
            Self::Opaque(bytes) => write!(f, "Opaque({} bytes)", bytes.len()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan() -> BootstrapPlan {
        BootstrapPlan {
            endpoint: "device".into(),
            generation: 1,
            is_blind: false,
            account: ServerAccount {
                short_server_id: 7,
                security_instance: Some(1),
                server_instance: Some(0),
                security: vec![(5, Setting::Opaque(Zeroizing::new(vec![0xaa; 16])))],
                ..ServerAccount::default()
            },
            further: Vec::new(),
            is_under_oscore: false,
            writes_time: false,
            is_verified: false,
            write_by: WriteBy::Instance,
            format: None,
            steps: Vec::new(),
        }
    }

    fn targets(discovered: &Discovered) -> Vec<(u16, u16)> {
        places(&plan(), discovered).concat()
    }

    /// Object and instance of each instance of each account.
    fn places(plan: &BootstrapPlan, discovered: &Discovered) -> Vec<Vec<(u16, u16)>> {
        let place = |instances: Vec<AccountInstance>| {
            instances.iter().map(|each| (each.object, each.instance)).collect()
        };
        plan.place(discovered).into_iter().map(place).collect()
    }

    #[test]
    fn a_context_goes_beside_its_account_and_never_to_that_of_the_bootstrap_account() {
        let written = |is_under_oscore, oscore: &[(u16, Option<u16>)]| {
            let oscore = oscore.to_vec();
            let found = Discovered { security: vec![(0, None)], oscore, ..Discovered::default() };
            let secret = vec![(0, Setting::Opaque(Zeroizing::new(vec![0xaa; 16])))];
            let account = ServerAccount { oscore: secret, ..plan().account };
            let plan = BootstrapPlan { account, is_under_oscore, ..plan() };
            let [security, oscore, _] = plan.place(&found).concat().try_into().ok()?;
            let link = plan.resources(&security).last().map(|(_, setting)| setting.clone());
            (link == Some(Setting::Link(21, oscore.instance)) && oscore.object == 21)
                .then_some(oscore.instance)
        };
        for (is_under_oscore, found, instance) in [
            (false, &[][..], 1),
            (true, &[(0, None)], 1),
            (true, &[(1, None)], 0),
            (true, &[(0, None), (1, None)], 1),
            (true, &[(1, None), (4, Some(7))], 4),
            (false, &[(1, None)], 1),
            (true, &[(0, None), (1, Some(9))], 2),
        ] {
            assert_eq!(written(is_under_oscore, found), Some(instance), "{is_under_oscore} {found:?}");
        }
    }

    #[test]
    fn without_a_discover_the_planned_instances_are_written() {
        assert_eq!(targets(&Discovered::default()), [(0, 1), (1, 0)]);
    }

    #[test]
    fn the_bootstrap_account_is_never_a_target() {
        let discovered = Discovered { security: vec![(1, None)], server: vec![], ..Discovered::default() };
        assert_eq!(targets(&discovered), [(0, 0), (1, 0)]);
    }

    #[test]
    fn an_account_with_the_same_short_server_id_is_overwritten() {
        let discovered = Discovered {
            security: vec![(0, None), (4, Some(7))],
            server: vec![(0, Some(9)), (3, Some(7))],
            ..Discovered::default()
        };
        assert_eq!(targets(&discovered), [(0, 4), (1, 3)]);
    }

    #[test]
    fn the_account_of_another_server_is_left_alone() {
        let discovered = Discovered {
            security: vec![(0, None), (1, Some(9))],
            server: vec![(0, Some(9))],
            ..Discovered::default()
        };
        assert_eq!(targets(&discovered), [(0, 2), (1, 1)]);
    }

    #[test]
    fn a_device_that_does_not_show_its_bootstrap_account_is_not_written_at_its_first_instance() {
        let discovered = Discovered { security: vec![(1, Some(9))], ..Discovered::default() };
        assert_eq!(targets(&discovered), [(0, 2), (1, 0)]);
    }

    fn of_two(security_instance: Option<u16>, server_instance: Option<u16>) -> BootstrapPlan {
        let second =
            ServerAccount { short_server_id: 9, security_instance, server_instance, ..plan().account };
        BootstrapPlan { further: vec![second], ..plan() }
    }

    #[test]
    fn accounts_of_other_servers_go_where_they_are_and_else_beside_that_of_this_one() {
        for (plan, discovered, expected) in [
            (of_two(None, None), Discovered::default(), [(0, 2), (1, 1)]),
            (of_two(Some(1), Some(0)), Discovered::default(), [(0, 2), (1, 1)]),
            (of_two(Some(6), Some(5)), Discovered::default(), [(0, 6), (1, 5)]),
            (
                of_two(Some(6), Some(5)),
                Discovered {
                    security: vec![(0, None), (3, Some(9))],
                    server: vec![(2, Some(9))],
                    ..Discovered::default()
                },
                [(0, 3), (1, 2)],
            ),
        ] {
            assert_eq!(places(&plan, &discovered).pop().unwrap(), expected, "{discovered:?}");
        }
    }

    #[test]
    fn nothing_of_security_objects_is_deleted_where_the_bootstrap_account_is_not_shown() {
        let at = |text: &str| text.parse::<Path>().unwrap();
        let hidden = Discovered { security: vec![(1, Some(9))], ..Discovered::default() };
        for path in ["/0", "/0/1", "/21", "/21/3"] {
            assert!(Discovered::clear(None, at(path)).is_err(), "{path}");
            assert!(Discovered::clear(Some(&hidden), at(path)).is_err(), "{path}");
        }
        assert!(Discovered::clear(None, Path::ROOT).is_err());
        let shown = Discovered {
            security: vec![(0, None), (1, Some(9)), (2, Some(8))],
            oscore: vec![(0, None), (2, Some(8))],
            ..Discovered::default()
        };
        assert!(Discovered::clear(Some(&shown), at("/0/0")).is_err());
        assert!(Discovered::clear(Some(&shown), at("/21/0")).is_err());
        assert_eq!(Discovered::clear(Some(&shown), at("/0")).unwrap(), [at("/0/1"), at("/0/2")]);
        assert_eq!(Discovered::clear(Some(&shown), at("/0/2")).unwrap(), [at("/0/2")]);
        assert_eq!(Discovered::clear(Some(&shown), at("/0/5")).unwrap(), []);
        assert_eq!(Discovered::clear(Some(&shown), at("/21")).unwrap(), [at("/21/2")]);
    }

    #[test]
    fn what_a_device_shows_not_to_have_is_not_deleted() {
        let at = |text: &str| text.parse::<Path>().unwrap();
        let shown = Discovered {
            security: vec![(0, None)],
            others: vec![at("/3/0"), at("/3303"), at("/3303/1")],
            ..Discovered::default()
        };
        for (path, is_deleted) in
            [("/3303", true), ("/3303/1", true), ("/3303/0", false), ("/3311", false), ("/1/0", false)]
        {
            assert_eq!(
                Discovered::clear(Some(&shown), at(path)).unwrap().len(),
                usize::from(is_deleted),
                "{path}"
            );
        }
        // A device that shows accounts alone, one whose answer was cut, and one that was not asked.
        let accounts = Discovered { others: Vec::new(), ..shown.clone() };
        let cut = Discovered { is_cut: true, ..shown };
        for found in [Some(&accounts), Some(&cut), None] {
            assert_eq!(Discovered::clear(found, at("/3311/0")).unwrap(), [at("/3311/0")], "{found:?}");
        }
    }

    #[test]
    fn a_plan_shows_no_key() {
        assert!(!format!("{:?}", plan()).contains("170"));
    }

    fn instances() -> impl Strategy<Value = Vec<(u16, Option<u16>)>> {
        prop::collection::vec((0_u16..6, prop::option::of(5_u16..10)), 0..8)
    }

    proptest! {
        #[test]
        fn whatever_a_device_shows_its_bootstrap_account_is_spared_and_no_two_accounts_share_an_instance(
            security in instances(), server in instances(), oscore in instances(),
            planned in prop::collection::vec(prop::option::of(0_u16..6), 8),
            has_context in any::<bool>(), is_under_oscore in any::<bool>(),
        ) {
            let found = Discovered { security, server, oscore, ..Discovered::default() };
            let mut plan = plan();
            plan.is_under_oscore = is_under_oscore;
            if has_context {
                plan.account.oscore = vec![(0, Setting::Integer(1))];
            }
            let planned = planned.chunks(2).zip([7, 5, 8, 9]);
            let accounts = planned.map(|(planned, short_server_id)| ServerAccount {
                short_server_id,
                security_instance: planned[0],
                server_instance: planned[1],
                ..ServerAccount::default()
            });
            plan.further = accounts.skip(1).collect();
            let places = places(&plan, &found).concat();
            for (at, place) in places.iter().enumerate() {
                prop_assert!(!places[..at].contains(place), "{places:?}");
                if place.0 == 0 {
                    prop_assert!(!found.security.contains(&(place.1, None)), "{places:?}");
                }
                // Where nothing says which of several is the bootstrap account's, one that was written before is known by its number.
                let nameless = found.oscore.iter().filter(|(_, id)| id.is_none()).count();
                if place.0 == 21 && nameless <= usize::from(is_under_oscore) {
                    prop_assert!(!found.oscore.contains(&(place.1, None)), "{places:?}");
                }
            }
            for path in ["/0", "/21", "/0/1", "/21/1"] {
                for doomed in Discovered::clear(Some(&found), path.parse().unwrap()).unwrap_or_default() {
                    let known = if doomed.object_id() == Some(0) { &found.security } else { &found.oscore };
                    prop_assert!(!known.contains(&(doomed.instance_id().unwrap(), None)));
                }
            }
        }
    }
}
