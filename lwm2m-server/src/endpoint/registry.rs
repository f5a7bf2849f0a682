//! Which devices are registered, under which names, until when (LwM2M Core 1.2.1 §6.2).
//!
//! Invariants: one registration for each endpoint name; a registration belongs to an endpoint name that was proven (or
//! admitted without security), never to an address; equal object lists are kept once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lwm2m_coap::Instant;
use lwm2m_objects::{Format, Path, Registered, Version};

use crate::models::Versions;

use super::directory::{Claim, Place};
use super::location::Location;
use super::observation::Observation;
use super::shard::Shared;
use super::slab::{Key, Slab};
use super::timer::{NEVER, Timers};

/// A registered device.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) endpoint: Arc<str>,
    /// Where requests go: the association that registered or updated last; `None` when it moved here and that was gone.
    pub(crate) association: Option<Key>,
    /// Which generation of its credential that association proved; `None` without security.
    pub(crate) generation: Option<u32>,
    /// Seconds; 0 never ends.
    pub(crate) lifetime: u32,
    pub(crate) version: Version,
    pub(crate) queue: bool,
    pub(crate) binding: Binding,
    pub(crate) objects: Arc<ObjectList>,
    pub(crate) registered_at: Instant,
    /// When it was registered or updated last: what the lifetime counts from.
    pub(crate) updated_at: Instant,
    pub(crate) observations: Vec<Observation>,
    location: Location,
    /// What the expiry timer is armed for.
    armed: Instant,
}

/// Letters of the binding, eight at most, as they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding([u8; 8]);

/// What a registration's payload said; shared by all devices that sent the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectList {
    /// The payload as it was sent.
    pub(crate) links: Box<str>,
    /// Where the objects lie when not at the root (§6.2.1, `rt="oma.lwm2m"`), without the leading slash.
    pub(crate) prefix: Option<Box<str>>,
    /// Content formats the root link announced (`ct`).
    pub(crate) formats: Vec<Format>,
    /// The versions of objects that the list gives (`ver`).
    pub(crate) versions: Versions,
}

/// What a Register or Update changes.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) lifetime: Option<u32>,
    pub(crate) binding: Option<Binding>,
    pub(crate) queue: Option<bool>,
    pub(crate) objects: Option<ObjectList>,
}

/// The registrations of one part of the server.
#[derive(Debug)]
pub(crate) struct Registry {
    registrations: Slab<Registration>,
    shared: Arc<Shared>,
    /// The number of this part.
    index: u8,
    lists: HashSet<SharedList>,
    timers: Timers<Key>,
}

/// Lifetime of a registration that names none (§6.2.1, 1.0 default).
pub(crate) const DEFAULT_LIFETIME: u32 = 86_400;

impl Registry {
    pub(crate) fn new(shared: Arc<Shared>, index: u8) -> Self {
        Self { registrations: Slab::new(), shared, index, lists: HashSet::new(), timers: Timers::new() }
    }

    /// Registers a device. A former registration of the same name is replaced: its observations are gone (§6.2.1). `None`
    /// in the first place when no slot is left.
    pub(crate) fn register(
        &mut self,
        now: Instant,
        endpoint: Arc<str>,
        (association, generation): (Key, Option<u32>),
        version: Version,
        change: Change,
    ) -> (Option<Key>, Former) {
        let Some(location) = self.shared.directory.locate(&endpoint) else { return (None, Former::None) };
        let list = self.intern(change.objects.unwrap_or_default());
        let key = self.registrations.insert(Registration {
            generation,
            lifetime: change.lifetime.unwrap_or(DEFAULT_LIFETIME),
            queue: change.queue.unwrap_or(false),
            binding: change.binding.unwrap_or(Binding::U),
            objects: Arc::clone(&list),
            ..Registration::new(now, Arc::clone(&endpoint), Some(association), location, version)
        });
        let Some(key) = key else {
            self.release(&list);
            self.shared.directory.vacate(location);
            return (None, Former::None);
        };
        self.arm(key);
        let own = Claim { owner: self.index, place: Place::Here(key) };
        let former = match self.shared.directory.claim(&endpoint, own) {
            Some(Claim { owner, place: Place::Here(former) }) if owner == self.index => {
                self.remove(former).map_or(Former::None, |former| Former::Here(Box::new(former)))
            }
            Some(Claim { owner, place: Place::Here(former) }) => Former::Elsewhere(owner, former),
            // It comes too late wherever it is on its way to, and ends there.
            Some(Claim { place: Place::Moving(_), .. }) | None => Former::None,
        };
        (Some(key), former)
    }

    /// Takes a registration out for the part `to`, which has its claim from now on.
    pub(crate) fn give_away(&mut self, endpoint: &str, to: u8) -> Option<(Key, Registration)> {
        let key = self.find(endpoint)?;
        let mut registration = self.registrations.remove(key)?;
        let own = Claim { owner: self.index, place: Place::Here(key) };
        let next = Claim { owner: to, place: Place::Moving(registration.location.slot) };
        self.shared.directory.pass_on(endpoint, own, next);
        self.release(&registration.objects);
        // What two parts hold, neither could tell to be unused.
        registration.objects = Arc::new(ObjectList::clone(&registration.objects));
        Some((key, registration))
    }

    /// Takes a registration that another part gave away to this one; gives it back when its device has registered again
    /// meanwhile, or no slot is left.
    pub(crate) fn take_over(&mut self, registration: Registration) -> Result<Key, Box<Registration>> {
        let moving = Claim { owner: self.index, place: Place::Moving(registration.location.slot) };
        let key = self.registrations.next_key().filter(|key| {
            let own = Claim { owner: self.index, place: Place::Here(*key) };
            self.shared.directory.pass_on(&registration.endpoint, moving, own)
        });
        let Some(key) = key else {
            self.shared.directory.release(&registration.endpoint, moving);
            self.shared.directory.vacate(registration.location);
            return Err(Box::new(registration));
        };
        let objects = self.share(registration.objects);
        self.registrations.insert(Registration { objects, armed: NEVER, ..registration });
        self.arm(key);
        Ok(key)
    }

    /// Goes on with a registration of a former run, at the slot of its location. `None` when its device or its location is
    /// there already.
    pub(crate) fn restore(
        &mut self,
        registered_at: Instant,
        endpoint: Arc<str>,
        association: Option<Key>,
        slot: u32,
        fill: impl FnOnce(&mut Registration),
    ) -> Option<Key> {
        if self.shared.directory.find(&endpoint).is_some() {
            return None;
        }
        let location = self.shared.directory.locate_again(&endpoint, slot)?;
        let mut registration = Registration::new(
            registered_at,
            Arc::clone(&endpoint),
            association,
            location,
            Version::new(1, 0),
        );
        fill(&mut registration);
        let list = self.share(registration.objects);
        registration.objects = Arc::clone(&list);
        let Some(key) = self.registrations.insert(registration) else {
            self.release(&list);
            return None;
        };
        self.shared.directory.claim(&endpoint, Claim { owner: self.index, place: Place::Here(key) });
        self.arm(key);
        Some(key)
    }

    /// Refreshes a registration and changes what the Update names (§6.2.2).
    pub(crate) fn update(&mut self, now: Instant, key: Key, change: Change) {
        if self.registrations.get(key).is_none() {
            return;
        }
        let objects = change.objects.map(|list| self.intern(list));
        let Some(registration) = self.registrations.get_mut(key) else { return };
        registration.updated_at = now;
        if let Some(lifetime) = change.lifetime {
            registration.lifetime = lifetime;
        }
        if let Some(binding) = change.binding {
            registration.binding = binding;
        }
        if let Some(queue) = change.queue {
            registration.queue = queue;
        }
        if let Some(objects) = objects {
            let former = core::mem::replace(&mut registration.objects, objects);
            self.release(&former);
        }
        self.arm(key);
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Registration> {
        let registration = self.registrations.remove(key)?;
        let own = Claim { owner: self.index, place: Place::Here(key) };
        self.shared.directory.release(&registration.endpoint, own);
        self.shared.directory.vacate(registration.location);
        self.release(&registration.objects);
        Some(registration)
    }

    /// Removes a registration whose lifetime passed; call until `None`.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<(Key, Registration)> {
        while let Some((at, key)) = self.timers.pop(now) {
            let Some(registration) = self.registrations.get_mut(key) else { continue };
            if registration.armed != at {
                continue;
            }
            registration.armed = NEVER;
            match registration.expires() {
                Some(expires) if expires <= now => return Some((key, self.remove(key)?)),
                Some(_) => self.arm(key),
                None => {}
            }
        }
        None
    }

    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The registration of a device of this part.
    pub(crate) fn find(&self, endpoint: &str) -> Option<Key> {
        match self.shared.directory.find(endpoint)? {
            Claim { owner, place: Place::Here(key) } if owner == self.index => Some(key),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Registration> {
        self.registrations.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Registration> {
        self.registrations.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.registrations.iter()
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = Registration> {
        self.registrations.into_values()
    }

    pub(crate) const fn len(&self) -> usize {
        self.registrations.len()
    }

    fn arm(&mut self, key: Key) {
        if let Some(registration) = self.registrations.get_mut(key)
            && let Some(at) = registration.expires()
        {
            self.timers.arm(&mut registration.armed, at, key);
        }
    }

    /// Whether an object list may be kept where all of them may take so many bytes, when it takes the place of the one of
    /// `former`.
    // What several parts take at the same moment may go beyond it by as many lists; what moved or was restored is here already.
    // A Register whose former registration is in another part is taken for one of a new device: only that part knows who else has
    // the list, and it gives it back when it hears of the Register, or at the end of the lifetime where there is no room for that.
    pub(crate) fn has_room_for(&self, list: &ObjectList, former: Option<Key>, most: usize) -> bool {
        let former = former.and_then(|key| self.get(key)).map(|former| &former.objects);
        let given_back = former.filter(|list| Arc::strong_count(list) <= 2).map_or(0, |list| list.size());
        let others = self.shared.object_lists.load(Ordering::Relaxed).saturating_sub(given_back);
        self.lists.contains(&*list.links) || others.saturating_add(list.size()) <= most
    }

    fn intern(&mut self, list: ObjectList) -> Arc<ObjectList> {
        match self.lists.get(&*list.links) {
            Some(shared) => Arc::clone(&shared.0),
            None => self.share(Arc::new(list)),
        }
    }

    fn share(&mut self, list: Arc<ObjectList>) -> Arc<ObjectList> {
        if let Some(shared) = self.lists.get(&*list.links) {
            return Arc::clone(&shared.0);
        }
        self.shared.object_lists.fetch_add(list.size(), Ordering::Relaxed);
        self.lists.insert(SharedList(Arc::clone(&list)));
        list
    }

    /// Forgets a list that nobody else uses: one count is the caller's, one the set's.
    fn release(&mut self, list: &Arc<ObjectList>) {
        if Arc::strong_count(list) <= 2 && self.lists.remove(&*list.links) {
            self.shared.object_lists.fetch_sub(list.size(), Ordering::Relaxed);
        }
    }
}

/// What a Register replaced.
#[derive(Debug)]
pub(crate) enum Former {
    None,
    /// A registration of this part.
    Here(Box<Registration>),
    /// One of another part, which does not know yet.
    Elsewhere(u8, Key),
}

impl Registration {
    /// The `<id>` of `/rd/<id>`.
    pub(crate) fn location(&self) -> String {
        self.location.emit()
    }

    fn new(
        now: Instant,
        endpoint: Arc<str>,
        association: Option<Key>,
        location: Location,
        version: Version,
    ) -> Self {
        Self {
            endpoint,
            association,
            generation: None,
            lifetime: DEFAULT_LIFETIME,
            version,
            queue: false,
            binding: Binding::U,
            objects: Arc::default(),
            registered_at: now,
            updated_at: now,
            observations: Vec::new(),
            location,
            armed: NEVER,
        }
    }

    /// The slot of its location.
    pub(crate) const fn slot(&self) -> u32 {
        self.location.slot
    }

    /// Whether an `<id>` names it; who may use it is for the caller to check.
    pub(crate) fn is_at(&self, id: &[u8]) -> bool {
        Location::parse(id) == Some(self.location)
    }

    pub(crate) fn expires(&self) -> Option<Instant> {
        (self.lifetime > 0)
            .then(|| self.updated_at.saturating_add(Duration::from_secs(u64::from(self.lifetime))))
    }
}

impl Binding {
    pub(crate) const U: Self = Self([b'U', 0, 0, 0, 0, 0, 0, 0]);

    /// The binding; 1.0 has the letter of the queue mode in it. `None` when it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut binding = Self::default();
        if text.is_empty() || !text.bytes().all(|letter| b"UTSNMHQ".contains(&letter)) {
            return None;
        }
        binding.0.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(binding)
    }

    pub(crate) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default().trim_end_matches('\0')
    }
}

/// Hashed and compared by its text, so that it can be looked up before it is shared.
#[derive(Debug)]
struct SharedList(Arc<ObjectList>);

impl core::borrow::Borrow<str> for SharedList {
    fn borrow(&self) -> &str {
        &self.0.links
    }
}

impl core::hash::Hash for SharedList {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        (*self.0.links).hash(state);
    }
}

impl PartialEq for SharedList {
    fn eq(&self, other: &Self) -> bool {
        self.0.links == other.0.links
    }
}

impl Eq for SharedList {}

impl ObjectList {
    /// Reads the list; `None` for what is no link-format (§6.2.1).
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let list = Registered::parse(payload).ok()?;
        Some(Self {
            links: core::str::from_utf8(payload).ok()?.into(),
            // The alternate path has no numeric segment, so that it cannot be taken for an object.
            prefix: list
                .alternate()
                .filter(|path| path.split('/').all(|segment| segment.parse::<u16>().is_err()))
                .map(Into::into),
            formats: list.formats().collect(),
            versions: Versions::of(&list),
        })
    }

    /// How many bytes it takes beside those of its place.
    pub(crate) fn size(&self) -> usize {
        let prefix = self.prefix.as_ref().map_or(0, |prefix| prefix.len());
        let formats = self.formats.len().saturating_mul(size_of::<Format>());
        let versions = self.versions.size();
        self.links.len().saturating_add(prefix).saturating_add(formats).saturating_add(versions)
    }

    /// The listed objects in ascending order, with or without instances.
    pub(crate) fn objects(&self) -> Vec<u16> {
        let Ok(list) = Registered::parse(self.links.as_bytes()) else { return Vec::new() };
        let mut objects: Vec<u16> = list.iter().filter_map(|entry| entry.path.object_id()).collect();
        objects.sort_unstable();
        objects.dedup();
        objects
    }

    /// The listed instances of an object.
    pub(crate) fn instances(&self, object: u16) -> Vec<u16> {
        let Ok(list) = Registered::parse(self.links.as_bytes()) else { return Vec::new() };
        let paths = list.iter().map(|entry| entry.path).filter(|path| path.object_id() == Some(object));
        paths.filter_map(Path::instance_id).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    const V1_1: Version = Version::new(1, 1);
    const ASSOCIATION: (Key, Option<u32>) = (Key { slot: 0, generation: std::num::NonZeroU32::MIN }, Some(1));

    fn registry() -> Registry {
        Registry::new(Arc::new(Shared::new()), 0)
    }

    fn change(lifetime: u32, links: &str) -> Change {
        Change { lifetime: Some(lifetime), objects: ObjectList::parse(links.as_bytes()), ..Change::default() }
    }

    fn seconds(seconds: u64) -> Instant {
        Instant::from_millis(seconds.saturating_mul(1000))
    }

    #[test]
    fn a_registration_ends_with_its_lifetime_unless_updated() {
        let mut registry = registry();
        let (key, former) =
            registry.register(seconds(0), "a".into(), ASSOCIATION, V1_1, change(60, "</1/0>"));
        let key = key.unwrap();
        assert!(matches!(former, Former::None));
        assert_eq!(registry.next_expiry(), Some(seconds(60)));
        registry.update(seconds(50), key, Change::default());
        assert!(registry.expire(seconds(100)).is_none());
        assert_eq!(registry.next_expiry(), Some(seconds(110)));
        assert_eq!(&*registry.expire(seconds(110)).unwrap().1.endpoint, "a");
        assert_eq!(registry.find("a"), None);
        assert!(registry.lists.is_empty());
    }

    #[test]
    fn a_shorter_lifetime_in_an_update_counts_at_once() {
        let mut registry = registry();
        let key = registry.register(seconds(0), "a".into(), ASSOCIATION, V1_1, change(1000, "")).0.unwrap();
        registry.update(seconds(1), key, Change { lifetime: Some(9), ..Change::default() });
        assert!(registry.expire(seconds(9)).is_none());
        assert!(registry.expire(seconds(10)).is_some());
        assert!(registry.expire(seconds(2000)).is_none());
    }

    #[test]
    fn lifetime_zero_never_ends() {
        let mut registry = registry();
        registry.register(seconds(0), "a".into(), ASSOCIATION, V1_1, change(0, ""));
        assert!(registry.expire(Instant::from_millis(u64::MAX)).is_none());
    }

    #[test]
    fn registering_again_replaces_and_the_old_location_finds_nothing_of_another_name() {
        let mut registry = registry();
        let first = registry.register(seconds(0), "a".into(), ASSOCIATION, V1_1, change(60, "")).0.unwrap();
        let location = registry.get(first).unwrap().location();
        let (second, former) = registry.register(seconds(1), "a".into(), ASSOCIATION, V1_1, change(60, ""));
        let Former::Here(former) = former else { unreachable!("it was registered here") };
        assert_eq!(former.registered_at, seconds(0));
        assert_ne!(second, Some(first));
        assert_eq!(registry.len(), 1);
        assert!(!registry.get(second.unwrap()).unwrap().is_at(location.as_bytes()));
        registry.remove(second.unwrap());
        assert_eq!(registry.find("a"), None);
    }

    #[test]
    fn a_registration_moves_between_parts_with_its_location() {
        let shared = Arc::new(Shared::new());
        let mut parts = [0, 1].map(|index| Registry::new(Arc::clone(&shared), index));
        let [one, other] = &mut parts;
        let first = one.register(seconds(0), "a".into(), ASSOCIATION, V1_1, change(60, "</1/0>")).0.unwrap();
        let location = one.get(first).unwrap().location();
        let (_, registration) = one.give_away("a", 1).unwrap();
        assert_eq!((one.len(), one.lists.len()), (0, 0));
        assert_eq!((shared.owner("a"), other.find("a")), (Some(1), None), "it is on its way");
        let taken = other.take_over(registration).unwrap();
        assert_eq!((shared.owner("a"), other.find("a")), (Some(1), Some(taken)));
        assert!(other.get(taken).unwrap().is_at(location.as_bytes()));
        assert_eq!(other.next_expiry(), Some(seconds(60)));

        // On its way back it comes too late: the device has registered again.
        let (_, registration) = other.give_away("a", 0).unwrap();
        let (_, former) = other.register(seconds(1), "a".into(), ASSOCIATION, V1_1, change(60, ""));
        assert!(matches!(former, Former::None), "it is gone from here");
        // And again, and moves where the former one is still on its way to: that is not taken for it.
        let (_, newer) = other.give_away("a", 0).unwrap();
        assert!(one.take_over(registration).is_err());
        assert_eq!((shared.owner("a"), one.find("a")), (Some(0), None));
        assert!(one.take_over(newer).is_ok());
    }

    #[test]
    fn object_lists_that_moved_are_forgotten_with_their_last_device_in_each_part() {
        let shared = Arc::new(Shared::new());
        let mut parts = [0, 1].map(|index| Registry::new(Arc::clone(&shared), index));
        let [one, other] = &mut parts;
        for name in ["a", "b", "c"] {
            one.register(seconds(0), name.into(), ASSOCIATION, V1_1, change(60, "</1/0>"));
        }
        // Two are on their way at once, the third stays.
        let moving = ["a", "b"].map(|name| one.give_away(name, 1).unwrap().1);
        for registration in moving {
            other.take_over(registration).unwrap();
        }
        assert_eq!((one.lists.len(), other.lists.len()), (1, 1));
        assert_eq!(shared.object_lists.load(Ordering::Relaxed), 12, "each part has its own");
        for registry in [one, other] {
            while registry.expire(seconds(60)).is_some() {}
            assert_eq!((registry.len(), registry.lists.len()), (0, 0));
        }
        assert_eq!(shared.object_lists.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn equal_object_lists_are_kept_once() {
        let mut registry = registry();
        for n in 0..100 {
            let name = format!("device-{n}").into();
            registry.register(seconds(0), name, ASSOCIATION, V1_1, change(60, "</1/0>,</3/0>"));
        }
        assert_eq!(registry.lists.len(), 1);
        assert_eq!(registry.iter().count(), 100);
    }

    #[test]
    fn the_root_link_tells_alternate_path_and_formats() {
        let parse = |links: &str| ObjectList::parse(links.as_bytes()).unwrap();
        let list = parse("</lwm2m>;rt=\"oma.lwm2m\";ct=\"110 112\",</lwm2m/1/4>,</lwm2m/1/0>,</lwm2m/3/0>");
        assert_eq!(list.prefix.as_deref(), Some("lwm2m"));
        assert_eq!(list.formats, [Format(110), Format(112)]);
        assert_eq!(list.instances(1), [4, 0]);
        let list = parse("</>;ct=112;rt=\"oma.lwm2m\",</1/0>,</3/0>;ver=1.1");
        assert_eq!((list.prefix, list.formats), (None, vec![Format(112)]));
        assert_eq!(parse("</5>;rt=\"oma.lwm2m\"").prefix, None);
        assert_eq!(ObjectList::parse(b"\xff"), None);
    }

    #[test]
    fn a_binding_keeps_its_letters() {
        assert_eq!(Binding::parse("UQ").unwrap().as_str(), "UQ");
        assert_eq!(Binding::parse("U"), Some(Binding::U));
        for text in ["X", "", "UTSNMHQUT"] {
            assert_eq!(Binding::parse(text), None);
        }
    }
}
