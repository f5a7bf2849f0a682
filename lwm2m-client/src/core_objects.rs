//! The objects that the client keeps itself: Security (`/0`), Server (`/1`) and Access Control (`/2`).
//!
//! LwM2M Core 1.1.1 appendices E.1 to E.3. They are objects like any other to the dispatch; what makes them special is
//! who may reach them, and that lies in `management` and `bootstrap`. Invariant: identities and keys pass through
//! [`Staged`] into storage and are never readable.

use heapless::Vec;
use lwm2m_objects::{
    Arguments, At, Change, Completion, Error, Kind, Object, ObjectDef, ObjectLink, ResourceDef, Tree, Value,
    Version, defs,
};

use crate::access::{ACL_CAPACITY, AccessControl, Rights};
#[cfg(feature = "oscore")]
use crate::account::OSCORE;
use crate::account::{Accounts, Part, Security, delete_instance, instance_mut};
use crate::address::ServerAddress;
#[cfg(feature = "x509")]
use crate::address::host_name;
use crate::identity::{PRIVATE_CAPACITY, PUBLIC_CAPACITY};
#[cfg(feature = "oscore")]
use crate::oscore_object::OscoreObject;
use crate::persist::Key;
use crate::server::{Binding, LAST_BOOTSTRAPPED, PREFERRED_TRANSPORT, Server, TLS_ALERT};
use crate::staging::{Staged, Staging};

/// What the client keeps of itself: three objects and what they leave to do.
pub(crate) struct Core<const S: usize, const A: usize, const U: usize> {
    pub(crate) accounts: Accounts<S, U>,
    pub(crate) access: Vec<AccessControl, A>,
    pub(crate) staging: Staged,
    /// What a server executed on `/1`, and on which instance.
    pub(crate) executed: Option<(u16, Executed)>,
}

/// How many objects the client keeps itself.
const CORE: usize = if cfg!(feature = "oscore") { 4 } else { 3 };

impl<const S: usize, const A: usize, const U: usize> Core<S, A, U> {
    pub(crate) const fn new() -> Self {
        Core { accounts: Accounts::new(), access: Vec::new(), staging: Staged::new(), executed: None }
    }

    /// The instances of `/2`; without room for any, all that concerns them is left out of the program.
    pub(crate) fn access(&self) -> &[AccessControl] {
        if A == 0 { &[] } else { &self.access }
    }

    /// As [`Core::access`], to be changed.
    pub(crate) fn access_mut(&mut self) -> Option<&mut Vec<AccessControl, A>> {
        if A == 0 { None } else { Some(&mut self.access) }
    }

    /// Runs `with` on the tree of all objects. Access Control is in it when it has instances, or when the bootstrap
    /// server may give it some.
    pub(crate) fn with_tree<R>(
        &mut self,
        is_bootstrap: bool,
        objects: &mut [&mut dyn Object],
        with: impl FnOnce(&mut Tree<'_, '_, '_>) -> R,
    ) -> R {
        let mut own = self.objects(is_bootstrap);
        with(&mut Tree::new(&mut own.list(), objects))
    }

    /// Apart from what is done with them, of which there are many kinds.
    #[inline(never)]
    fn objects(&mut self, is_bootstrap: bool) -> CoreObjects<'_, S, A, U> {
        let Core { accounts, access, staging, executed } = self;
        let is_complete = A > 0 && (is_bootstrap || !access.is_empty());
        let has_bootstrap = accounts.bootstrap().is_some();
        CoreObjects {
            security: SecurityObject {
                securities: &mut accounts.securities,
                staging: &mut staging.credentials,
            },
            server: ServerObject { servers: &mut accounts.servers, executed, has_bootstrap, is_bootstrap },
            access: is_complete.then_some(AccessObject { table: access, is_bootstrap }),
            #[cfg(feature = "oscore")]
            oscore: OscoreObject { contexts: &mut accounts.contexts, staging: &mut staging.master_secrets },
        }
    }
}

/// The objects that the client keeps itself.
struct CoreObjects<'a, const S: usize, const A: usize, const U: usize> {
    security: SecurityObject<'a, S, U>,
    server: ServerObject<'a, S>,
    access: Option<AccessObject<'a, A>>,
    #[cfg(feature = "oscore")]
    oscore: OscoreObject<'a, S>,
}

impl<const S: usize, const A: usize, const U: usize> CoreObjects<'_, S, A, U> {
    #[inline(never)]
    fn list(&mut self) -> Vec<&mut dyn Object, CORE> {
        let mut list: Vec<&mut dyn Object, CORE> = Vec::from_array([&mut self.security, &mut self.server]);
        if A > 0
            && let Some(access) = &mut self.access
        {
            let _ = list.push(access);
        }
        #[cfg(feature = "oscore")]
        let _ = list.push(&mut self.oscore);
        list
    }
}

pub(crate) fn next_above<'i>(ids: impl Iterator<Item = &'i u16>, after: Option<u16>) -> Option<u16> {
    ids.copied().filter(|id| after.is_none_or(|after| *id > after)).min()
}

/// What the device's own clock says (`/3/0/13`), in seconds since 1970, where it has one that was set.
pub(crate) fn clock(objects: &[&mut dyn Object]) -> Option<u32> {
    let device = objects.iter().find(|object| object.definition().id == defs::DEVICE.id)?;
    number(&device.read(At { instance: 0, resource: 13, resource_instance: 0 })?).filter(|time| *time > 0)
}

/// What the tables keep as a number.
fn number(value: &Value<'_>) -> Option<u32> {
    match *value {
        Value::Integer(value) | Value::Time(value) => u32::try_from(value).ok(),
        Value::Unsigned(value) => u32::try_from(value).ok(),
        Value::Boolean(value) => Some(u32::from(value)),
        Value::ObjectLink(link) => Some(u32::from(link.object) << 16 | u32::from(link.instance)),
        _ => None,
    }
}

fn short(value: &Value<'_>) -> Result<u16, Error> {
    number(value).and_then(|value| u16::try_from(value).ok()).ok_or(Error::BadRequest)
}

/// What a number of the tables is as a value.
fn value(definition: &ObjectDef, resource: u16, number: u32) -> Option<Value<'static>> {
    Some(match definition.resource(resource)?.kind {
        Kind::Boolean => Value::Boolean(number != 0),
        Kind::Unsigned => Value::Unsigned(u64::from(number)),
        Kind::Time => Value::Time(i64::from(number)),
        Kind::ObjectLink => {
            let [object, instance] =
                [number >> 16, number & 0xffff].map(|id| u16::try_from(id).unwrap_or_default());
            Value::ObjectLink(ObjectLink { object, instance })
        }
        _ => Value::Integer(i64::from(number)),
    })
}

/// DTLS/TLS Ciphersuite.
#[cfg(feature = "suites")]
const SUITE: u16 = 16;

/// The Security object over the account table.
pub(crate) struct SecurityObject<'a, const SERVERS: usize, const U: usize> {
    pub(crate) securities: &'a mut Vec<Security<U>, SERVERS>,
    pub(crate) staging: &'a mut Staging,
}

impl<const SERVERS: usize, const U: usize> SecurityObject<'_, SERVERS, U> {
    fn find(&self, instance: u16) -> Option<&Security<U>> {
        self.securities.iter().find(|security| security.instance == instance)
    }
}

impl<const SERVERS: usize, const U: usize> Object for SecurityObject<'_, SERVERS, U> {
    fn definition(&self) -> &'static ObjectDef {
        &defs::SECURITY
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        next_above(self.securities.iter().map(|security| &security.instance), after)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        let security = self.find(at.instance)?;
        match at.resource {
            0 => Some(Value::String(&security.uri)),
            3..=5 | 14 => None,
            #[cfg(feature = "suites")]
            SUITE => {
                let suite = security.suites.iter().find(|(known, _)| *known == at.resource_instance);
                suite.map(|(_, suite)| Value::Unsigned(u64::from(*suite)))
            }
            #[cfg(feature = "oscore")]
            OSCORE if at.resource_instance == 0 => {
                Some(Value::ObjectLink(ObjectLink { object: defs::OSCORE.id, instance: security.oscore? }))
            }
            resource => value(&defs::SECURITY, resource, security.value(resource)?),
        }
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        #[cfg(feature = "suites")]
        if resource == SUITE {
            return self.find(instance).is_some_and(|security| !security.suites.is_empty());
        }
        self.find(instance).is_some_and(|_security| match resource {
            0..=5 | 10..=12 => true,
            #[cfg(feature = "x509")]
            13..=15 => _security.value(resource).is_some_and(|value| resource != 14 || value != 0),
            #[cfg(feature = "oscore")]
            OSCORE => _security.oscore.is_some(),
            _ => false,
        })
    }

    #[cfg(feature = "suites")]
    fn next_resource_instance(&self, instance: u16, resource: u16, after: Option<u16>) -> Option<u16> {
        if resource != SUITE {
            return (after.is_none() && self.has(instance, resource)).then_some(0);
        }
        next_above(self.find(instance)?.suites.iter().map(|(known, _)| known), after)
    }

    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        let Change::Set { resource, ref value, .. } = *change else { return Ok(()) };
        if let Some((_, longest)) = credential(resource, 0) {
            #[cfg(feature = "x509")]
            if let Value::String(name) = value
                && !name.is_empty()
                && host_name(name).is_none()
            {
                return Err(Error::BadRequest);
            }
            let bytes = bytes_of(value);
            let ending = if RESUMES { 5 } else { 0 };
            let is_fitting =
                bytes.len() <= longest && self.staging.has_room(bytes.len().saturating_add(ending));
            return if is_fitting { Ok(()) } else { Err(Error::TooLarge) };
        }
        match (resource, value) {
            (0, Value::String(uri)) if uri.len() > U || ServerAddress::parse(uri).is_none() => {
                Err(Error::BadRequest)
            }
            (1 | 2 | 10..=13 | 15, value) if number(value).is_none() => Err(Error::BadRequest),
            #[cfg(feature = "suites")]
            (SUITE, value) => short(value).map(|_| ()),
            #[cfg(feature = "oscore")]
            (OSCORE, Value::ObjectLink(link))
                if *link != ObjectLink::NULL && link.object != defs::OSCORE.id =>
            {
                Err(Error::BadRequest)
            }
            _ => Ok(()),
        }
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        let found = self.securities.iter_mut().find(|security| security.instance == instance);
        let security = found.ok_or(Error::NotFound)?;
        security.is_touched = true;
        #[cfg(feature = "suites")]
        match *change {
            Change::Set { resource: SUITE, resource_instance, ref value } => {
                security.set_suite(resource_instance, Some(short(value)?));
                return Ok(());
            }
            Change::Reset { resource: SUITE } => {
                security.suites.clear();
                return Ok(());
            }
            Change::Remove { resource: SUITE, resource_instance } => {
                security.set_suite(resource_instance, None);
                return Ok(());
            }
            _ => {}
        }
        let (resource, value) = match *change {
            Change::Set { resource, ref value, .. } => (resource, Some(value)),
            Change::Reset { resource } | Change::Remove { resource, .. } => (resource, None),
        };
        if let Some((key, _)) = credential(resource, instance) {
            if value.is_none() && security.value(resource) == Some(0) {
                return Ok(());
            }
            let bytes = value.map(bytes_of).filter(|bytes| !bytes.is_empty());
            // What was agreed under the former credential ends with it.
            let is_ended = !RESUMES || self.staging.remove(Key::Session(instance));
            let is_staged = is_ended
                && match bytes {
                    Some(bytes) => self.staging.stage(key, bytes),
                    None => self.staging.remove(key),
                };
            // A credential of which a part found no room is not whole.
            let part = bytes.filter(|_| is_staged).map(|bytes| Part::of(resource, bytes.len()) as u32);
            security.set(resource, part);
            return if is_staged { Ok(()) } else { Err(Error::TooLarge) };
        }
        // Nor does it outlive the way in which the server was trusted.
        if matches!(resource, 0 | 2 | 13 | 15) && RESUMES && !self.staging.remove(Key::Session(instance)) {
            return Err(Error::TooLarge);
        }
        match (resource, value) {
            (0, value) => {
                security.uri.clear();
                let Some(Value::String(uri)) = value else { return Ok(()) };
                security.uri.push_str(uri).map_err(|_| Error::BadRequest)
            }
            #[cfg(feature = "oscore")]
            (OSCORE, value) => {
                security.oscore = match value {
                    Some(Value::ObjectLink(link)) if *link != ObjectLink::NULL => Some(link.instance),
                    _ => None,
                };
                Ok(())
            }
            (_, value) => {
                security.set(resource, value.and_then(number));
                Ok(())
            }
        }
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        instance_mut(self.securities, instance).map(|_| ()).ok_or(Error::Internal)
    }

    fn delete(&mut self, instance: u16) -> Result<(), Error> {
        delete_instance(self.securities, instance);
        let parts = CREDENTIAL.iter().filter_map(|part| Some(credential(*part, instance)?.0));
        let session = RESUMES.then_some(Key::Session(instance));
        let mut keys = core::iter::once(Key::Security(instance)).chain(parts).chain(session);
        if keys.all(|key| self.staging.remove(key)) { Ok(()) } else { Err(Error::Internal) }
    }
}

/// The resources that go to storage and are not kept here.
const CREDENTIAL: &[u16] = if cfg!(feature = "x509") {
    &[3, 4, 5, 14]
} else if cfg!(feature = "rpk") {
    &[3, 4, 5]
} else {
    &[3, 5]
};

/// Where such a resource is stored, and how long it may be, in bytes.
fn credential(resource: u16, instance: u16) -> Option<(Key, usize)> {
    match resource {
        3 => Some((Key::Identity(instance), PUBLIC_CAPACITY)),
        4 if cfg!(feature = "rpk") => Some((Key::ServerKey(instance), PUBLIC_CAPACITY)),
        5 => Some((Key::Secret(instance), PRIVATE_CAPACITY)),
        #[cfg(feature = "x509")]
        14 => Some((Key::ServerName(instance), dtls_psk::SERVER_NAME_MAX)),
        _ => None,
    }
}

/// What is stored of a value.
pub(crate) fn bytes_of<'v>(value: &Value<'v>) -> &'v [u8] {
    match *value {
        Value::Opaque(bytes) => bytes,
        Value::String(text) => text.as_bytes(),
        _ => &[],
    }
}

/// Whether there may be sessions in storage.
const RESUMES: bool = cfg!(feature = "resumption");

/// What a server executed on `/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executed {
    /// `/1/x/4`
    Disable,
    /// `/1/x/8`
    Update,
    /// `/1/x/9`
    Bootstrap,
}

/// The Server object as LwM2M 1.1 has it: what 1.2 added is not there.
static SERVER: ObjectDef = ObjectDef {
    version: Version::new(1, 1),
    resources: until_1_2(defs::SERVER.resources),
    id: defs::SERVER.id,
    multiple: defs::SERVER.multiple,
    mandatory: defs::SERVER.mandatory,
};

/// The resources up to 23, Mute Send.
const fn until_1_2(all: &'static [ResourceDef]) -> &'static [ResourceDef] {
    match all.split_at_checked(24) {
        Some((those, _)) => those,
        None => all,
    }
}

/// The Server object over the account table.
pub(crate) struct ServerObject<'a, const SERVERS: usize> {
    pub(crate) servers: &'a mut Vec<Server, SERVERS>,
    pub(crate) executed: &'a mut Option<(u16, Executed)>,
    /// Whether there is a bootstrap server to go to.
    pub(crate) has_bootstrap: bool,
    /// Whether it is the bootstrap server that acts: an account may then be without what it needs until the end.
    pub(crate) is_bootstrap: bool,
}

impl<const SERVERS: usize> ServerObject<'_, SERVERS> {
    fn find(&self, instance: u16) -> Option<&Server> {
        self.servers.iter().find(|server| server.instance == instance)
    }
}

impl<const SERVERS: usize> Object for ServerObject<'_, SERVERS> {
    fn definition(&self) -> &'static ObjectDef {
        &SERVER
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        next_above(self.servers.iter().map(|server| &server.instance), after)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        let server = self.find(at.instance)?;
        match at.resource {
            6 => Some(Value::Boolean(server.is_storing())),
            7 => server.binding.as_ref().map(|binding| Value::String(binding.as_str())),
            PREFERRED_TRANSPORT => server.preferred_transport().map(Value::String),
            LAST_BOOTSTRAPPED if server.value(LAST_BOOTSTRAPPED) == Some(0) => None,
            resource => value(&SERVER, resource, server.value(resource)?),
        }
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        matches!(resource, 4 | 8 | 9) && self.find(instance).is_some()
            || self.read(At { instance, resource, resource_instance: 0 }).is_some()
    }

    fn validate(&self, _: u16, change: &Change<'_>) -> Result<(), Error> {
        let Change::Set { ref value, .. } = *change else { return Ok(()) };
        let is_valid = match *value {
            // Of the Preferred Transport the definition says that it is one letter.
            Value::String(text) => Binding::parse(text).is_some(),
            ref value => number(value).is_some(),
        };
        if is_valid { Ok(()) } else { Err(Error::BadRequest) }
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        let server =
            self.servers.iter_mut().find(|server| server.instance == instance).ok_or(Error::NotFound)?;
        let (resource, value) = match *change {
            Change::Set { resource, ref value, .. } => (resource, Some(value)),
            Change::Reset { resource } | Change::Remove { resource, .. } => (resource, None),
        };
        match value {
            Some(Value::String(text)) if resource == 7 => server.binding = Binding::parse(text),
            // A Replace that leaves it out leaves it as it is: there is no instance without it, and no default.
            None if matches!(resource, 1 | 7) && !self.is_bootstrap => {}
            None if resource == 7 => server.binding = None,
            // Core 1.1.1 appendix E.2: these are the client's to say. An account that is written anew has seen no alert.
            Some(_) if matches!(resource, TLS_ALERT | LAST_BOOTSTRAPPED) => {}
            // Departure: the client has one transport; another one that is preferred is kept for whoever reads it.
            Some(Value::String(letter)) => _ = server.set(resource, letter.bytes().next().map(u32::from)),
            value => _ = server.set(resource, value.and_then(number)),
        }
        if self.is_bootstrap {
            server.set(LAST_BOOTSTRAPPED, Some(0));
        }
        Ok(())
    }

    fn execute(&mut self, instance: u16, resource: u16, given: Arguments<'_>) -> Result<Completion, Error> {
        let what = match resource {
            4 => Executed::Disable,
            // Core 1.1.1 appendix E.2: over which transport the Update is to come.
            8 if given.value(0).is_some_and(|letter| letter != "U") => return Err(Error::BadRequest),
            8 => Executed::Update,
            9 if self.has_bootstrap => Executed::Bootstrap,
            _ => return Err(Error::MethodNotAllowed),
        };
        *self.executed = Some((instance, what));
        Ok(Completion::Done)
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        instance_mut(self.servers, instance).map(|_| ()).ok_or(Error::Internal)
    }

    fn delete(&mut self, instance: u16) -> Result<(), Error> {
        delete_instance(self.servers, instance);
        Ok(())
    }
}

/// The Access Control object.
pub(crate) struct AccessObject<'a, const ACCESS: usize> {
    pub(crate) table: &'a mut Vec<AccessControl, ACCESS>,
    /// Whether it is the bootstrap server that acts: what it writes starts afresh.
    pub(crate) is_bootstrap: bool,
}

impl<const ACCESS: usize> AccessObject<'_, ACCESS> {
    fn find(&self, instance: u16) -> Option<&AccessControl> {
        self.table.iter().find(|access| access.instance == instance)
    }
}

impl<const ACCESS: usize> Object for AccessObject<'_, ACCESS> {
    fn definition(&self) -> &'static ObjectDef {
        &defs::ACCESS_CONTROL
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        next_above(self.table.iter().map(|access| &access.instance), after)
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        let access = self.find(at.instance)?;
        match at.resource {
            0 => Some(Value::Integer(i64::from(access.object?))),
            1 => Some(Value::Integer(i64::from(access.object_instance?))),
            2 => {
                let (_, rights) = access.list.iter().find(|(server, _)| *server == at.resource_instance)?;
                Some(Value::Integer(i64::from(rights.bits())))
            }
            3 => Some(Value::Integer(i64::from(access.owner?))),
            _ => None,
        }
    }

    fn next_resource_instance(&self, instance: u16, resource: u16, after: Option<u16>) -> Option<u16> {
        if resource != 2 {
            return None;
        }
        next_above(self.find(instance)?.list.iter().map(|(server, _)| server), after)
    }

    fn validate(&self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { resource: 2, resource_instance, ref value } => {
                Rights::from_value(i64::from(number(value).ok_or(Error::BadRequest)?))
                    .ok_or(Error::BadRequest)?;
                let list = self.find(instance).map(|access| &access.list);
                let is_full = list.is_some_and(|list| {
                    list.len() == ACL_CAPACITY && list.iter().all(|(server, _)| *server != resource_instance)
                });
                if is_full { Err(Error::TooLarge) } else { Ok(()) }
            }
            Change::Set { ref value, .. } => short(value).map(|_| ()),
            Change::Reset { .. } | Change::Remove { .. } => Ok(()),
        }
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        let access =
            self.table.iter_mut().find(|access| access.instance == instance).ok_or(Error::NotFound)?;
        match *change {
            Change::Set { resource: 2, resource_instance, ref value } => {
                let rights = Rights::from_value(i64::from(number(value).ok_or(Error::BadRequest)?))
                    .ok_or(Error::BadRequest)?;
                match access.list.iter_mut().find(|(server, _)| *server == resource_instance) {
                    Some((_, place)) => *place = rights,
                    None => access.list.push((resource_instance, rights)).map_err(|_| Error::TooLarge)?,
                }
            }
            Change::Set { resource, ref value, .. } => access.set(resource, Some(short(value)?)),
            Change::Reset { resource: 2 } => access.list.clear(),
            Change::Reset { resource } if self.is_bootstrap => access.set(resource, None),
            // There is no instance without the others, and no default: what is left out stays.
            Change::Reset { .. } => {}
            Change::Remove { resource_instance, .. } => {
                access.list.retain(|(server, _)| *server != resource_instance);
            }
        }
        Ok(())
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        instance_mut(self.table, instance).map(|_| ()).ok_or(Error::Internal)
    }

    fn delete(&mut self, instance: u16) -> Result<(), Error> {
        delete_instance(self.table, instance);
        Ok(())
    }
}
