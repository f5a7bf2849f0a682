//! The bootstrap plan: what a bootstrap writes into `/0`, `/1` and `/21` (LwM2M Core §6.1; objects `/0`, `/1` and `/21`).
//!
//! Invariants: the bootstrap account's own `/0` instance is never a target where a Discover showed it; what is written
//! blind goes to the instances that the profile names. A plan writes one server account, the pair of a `/0` and a `/1` instance with
//! the same Short Server ID with the `/21` instance that `/0` links, and else at most the time.

use core::fmt;
use std::borrow::Cow;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::{Path, Value};

/// What a bootstrap has to do, and which credential that delivers.
#[derive(Clone, Debug)]
pub struct BootstrapPlan {
    /// The device.
    pub endpoint: Arc<str>,
    /// The generation of the management credential it writes; 0 when the account has no security.
    pub generation: u32,
    /// Short Server ID of the account.
    pub short_server_id: u16,
    /// Write without a Discover, which this device answers wrongly.
    pub is_blind: bool,
    /// `/0` instance to write when a Discover does not say otherwise.
    pub security_instance: u16,
    /// `/1` instance to write when a Discover does not say otherwise.
    pub server_instance: u16,
    /// Resources of the `/0` instance in ascending order.
    pub security: Vec<(u16, Setting)>,
    /// Resources of the `/21` instance in ascending order; empty where the account has none.
    pub oscore: Vec<(u16, Setting)>,
    /// Whether the bootstrap account has a `/21` instance too.
    pub is_under_oscore: bool,
    /// Resources of the `/1` instance in ascending order.
    pub server: Vec<(u16, Setting)>,
    /// Whether the time of the write is written to `/3/0/13`.
    pub writes_time: bool,
    /// What is done after the first Discover; the account is written and nothing else where it is empty.
    pub steps: Vec<BootstrapStep>,
}

/// One step of a bootstrap that does more than to write the account ([`Credentials::set_bootstrap_steps`](super::Credentials::set_bootstrap_steps)).
#[derive(Clone, PartialEq)]
pub enum BootstrapStep {
    /// Writes the account of the server.
    Account,
    /// Bootstrap-Discover of everything.
    Discover,
    /// Bootstrap-Read of `/1` or `/2`, or an instance of them.
    Read(Path),
    /// Bootstrap-Delete of an object or instance.
    Delete(Path),
    /// Bootstrap-Write of values at or below a path.
    Write(Path, Vec<(Path, Value)>),
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
}

/// One Bootstrap-Write of a whole object instance.
#[derive(Clone, Debug)]
pub struct Write<'p> {
    /// Object id, 0, 1 or 21.
    pub object: u16,
    /// Object instance id.
    pub instance: u16,
    /// Resource ids and values in ascending order.
    pub resources: Cow<'p, [(u16, Setting)]>,
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
    /// The writes in the order to send them: `/0`, then `/21` if there is one, then `/1`.
    ///
    /// The account goes where its Short Server ID already is, else to the planned instance, else to the lowest free
    /// one; never to the bootstrap account.
    #[must_use]
    pub fn writes(&self, discovered: &Discovered) -> Vec<Write<'_>> {
        let place = self.place(&discovered.security, self.security_instance);
        let server = Write {
            object: 1,
            instance: self.place(&discovered.server, self.server_instance),
            resources: Cow::Borrowed(&self.server),
        };
        if self.oscore.is_empty() {
            return vec![
                Write { object: 0, instance: place, resources: Cow::Borrowed(&self.security) },
                server,
            ];
        }
        let instance = self.place_beside(place, &discovered.oscore);
        let mut security = self.security.clone();
        security.push((17, Setting::Link(21, instance)));
        let oscore = Write { object: 21, instance, resources: Cow::Borrowed(&self.oscore) };
        vec![Write { object: 0, instance: place, resources: Cow::Owned(security) }, oscore, server]
    }

    /// The `/21` instance of the account at a `/0` instance: that with the same Short Server ID, else the one with the number of the
    /// `/0` instance, which was written there before if the device shows no ids, else the lowest free one.
    fn place_beside(&self, security: u16, found: &[(u16, Option<u16>)]) -> u16 {
        let of_others = usize::from(self.is_under_oscore);
        let nameless = found.iter().filter(|(_, id)| id.is_none()).count();
        let is_ours = found.contains(&(security, None)) && nameless > of_others;
        let has_id = found.iter().any(|(_, id)| id.is_some());
        if is_ours && !has_id { security } else { self.place(found, security) }
    }

    fn place(&self, found: &[(u16, Option<u16>)], planned: u16) -> u16 {
        if let Some((instance, _)) = found.iter().find(|(_, id)| *id == Some(self.short_server_id)) {
            return *instance;
        }
        let is_taken = |candidate: u16| found.iter().any(|(instance, _)| *instance == candidate);
        if is_taken(planned) { (0..u16::MAX).find(|id| !is_taken(*id)).unwrap_or(planned) } else { planned }
    }
}

impl fmt::Debug for BootstrapStep {
    // Values may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("Account"),
            Self::Discover => f.write_str("Discover"),
            Self::Read(path) => write!(f, "Read({path})"),
            Self::Delete(path) => write!(f, "Delete({path})"),
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
mod tests {
    use super::*;

    fn plan() -> BootstrapPlan {
        BootstrapPlan {
            endpoint: "device".into(),
            generation: 1,
            short_server_id: 7,
            is_blind: false,
            security_instance: 1,
            server_instance: 0,
            security: vec![(5, Setting::Opaque(Zeroizing::new(vec![0xaa; 16])))],
            oscore: Vec::new(),
            is_under_oscore: false,
            server: Vec::new(),
            writes_time: false,
            steps: Vec::new(),
        }
    }

    fn targets(discovered: &Discovered) -> Vec<(u16, u16)> {
        plan().writes(discovered).iter().map(|write| (write.object, write.instance)).collect()
    }

    #[test]
    fn a_context_goes_beside_its_account_and_never_to_that_of_the_bootstrap_account() {
        let written = |is_under_oscore, oscore: &[(u16, Option<u16>)]| {
            let oscore = oscore.to_vec();
            let found = Discovered { security: vec![(0, None)], server: vec![], oscore };
            let secret = vec![(0, Setting::Opaque(Zeroizing::new(vec![0xaa; 16])))];
            let plan = BootstrapPlan { oscore: secret, is_under_oscore, ..plan() };
            let writes = plan.writes(&found);
            let [security, oscore, _] = writes.as_slice() else { return None };
            let link = security.resources.last().map(|(_, setting)| setting.clone());
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
    fn a_plan_shows_no_key() {
        assert!(!format!("{:?}", plan()).contains("170"));
    }
}
