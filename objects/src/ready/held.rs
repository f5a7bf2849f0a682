//! An object of any definition, whose values are held in it (LwM2M Core 1.2.1 §7.1).
//!
//! Invariant: only what the definition has, of its type and in its range, is ever held.

use core::fmt;

use heapless::{String, Vec};
use zeroize::Zeroize;

use crate::{
    Arguments, At, Change, Completion, Error, Object, ObjectDef, ObjectLink, Path, ResourceDef, Value,
};

/// An object that is nothing but its values: `I` instances with `N` values in all, texts and opaques of up to `B` bytes.
///
/// The owner sets values and tells the client what changed; servers read them, and write what the definition lets them.
/// Optional resources are there once they have a value; those without one, which are executed or only written, once
/// they are [offered](Self::offering).
///
/// ```
/// use lwm2m_objects::ready::Held;
/// use lwm2m_objects::{Value, defs, path};
///
/// let mut lamp = Held::<1, 4, 16>::new(&defs::LIGHT_CONTROL).with_instance(0);
/// assert_eq!(lamp.set(path!("/3311/0/5850"), Value::Boolean(true)), Ok(true)); // then `client.changed(path)`
/// // After a turn of the client:
/// if lamp.take_written() {
///     let _is_on = lamp.value(path!("/3311/0/5850")) == Some(Value::Boolean(true));
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Held<const I: usize, const N: usize, const B: usize> {
    definition: &'static ObjectDef,
    /// Ascending.
    instances: Vec<u16, I>,
    /// Ascending by instance, resource and resource instance.
    values: Vec<(At, Kept<B>), N>,
    offered: &'static [u16],
    is_open: bool,
    is_written: bool,
    executed: Option<Executed<B>>,
}

/// What a server executed.
#[derive(Clone, PartialEq, Eq)]
pub struct Executed<const B: usize> {
    /// The object instance.
    pub instance: u16,
    /// The resource.
    pub resource: u16,
    /// The arguments as they came; they obey the grammar of [`Arguments`].
    pub arguments: String<B>,
}

impl<const B: usize> fmt::Debug for Executed<B> {
    /// Without the arguments, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, resource, .. } = self;
        f.debug_struct("Executed")
            .field("instance", instance)
            .field("resource", resource)
            .finish_non_exhaustive()
    }
}

/// A value that is owned. It may be a secret: it is wiped when it goes, and not shown.
#[derive(Clone, PartialEq)]
enum Kept<const B: usize> {
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Boolean(bool),
    Time(i64),
    ObjectLink(ObjectLink),
    String(String<B>),
    CoreLink(String<B>),
    Opaque(Vec<u8, B>),
}

impl<const B: usize> Kept<B> {
    /// Keeps a value, if it is not too long.
    fn new(value: &Value<'_>) -> Option<Self> {
        Some(match *value {
            Value::Integer(value) => Self::Integer(value),
            Value::Unsigned(value) => Self::Unsigned(value),
            Value::Float(value) => Self::Float(value),
            Value::Boolean(value) => Self::Boolean(value),
            Value::Time(value) => Self::Time(value),
            Value::ObjectLink(link) => Self::ObjectLink(link),
            Value::String(text) => Self::String(text.try_into().ok()?),
            Value::CoreLink(text) => Self::CoreLink(text.try_into().ok()?),
            Value::Opaque(bytes) => Self::Opaque(Vec::from_slice(bytes).ok()?),
        })
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Integer(value) => Value::Integer(*value),
            Self::Unsigned(value) => Value::Unsigned(*value),
            Self::Float(value) => Value::Float(*value),
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Time(value) => Value::Time(*value),
            Self::ObjectLink(link) => Value::ObjectLink(*link),
            Self::String(text) => Value::String(text),
            Self::CoreLink(text) => Value::CoreLink(text),
            Self::Opaque(bytes) => Value::Opaque(bytes),
        }
    }
}

impl<const B: usize> Drop for Kept<B> {
    fn drop(&mut self) {
        match self {
            Self::String(text) | Self::CoreLink(text) => text.zeroize(),
            Self::Opaque(bytes) => bytes.zeroize(),
            _ => {}
        }
    }
}

impl<const B: usize> fmt::Debug for Kept<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
}

fn place(at: At) -> (u16, u16, u16) {
    (at.instance, at.resource, at.resource_instance)
}

impl<const I: usize, const N: usize, const B: usize> Held<I, N, B> {
    /// An object of this definition without an instance.
    pub const fn new(definition: &'static ObjectDef) -> Self {
        Self {
            definition,
            instances: Vec::new(),
            values: Vec::new(),
            offered: &[],
            is_open: false,
            is_written: false,
            executed: None,
        }
    }

    /// Adds an instance; one for which there is no room is left out.
    #[must_use]
    pub fn with_instance(mut self, instance: u16) -> Self {
        let _ = self.add(instance);
        self
    }

    /// Sets a value, as [`set`](Self::set) does; one that cannot be set is left out.
    #[must_use]
    pub fn with(mut self, path: Path, value: Value<'_>) -> Self {
        let _ = self.set(path, value);
        self
    }

    /// Offers optional resources that have no value to read: what can be executed, or only written.
    #[must_use]
    pub const fn offering(mut self, resources: &'static [u16]) -> Self {
        self.offered = resources;
        self
    }

    /// Lets servers create and delete instances.
    #[must_use]
    pub const fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Adds an instance without values; one that is there stays as it is.
    ///
    /// # Errors
    /// [`Error::Internal`] when there is no room, [`Error::BadRequest`] for an instance that such an object cannot have.
    pub fn add(&mut self, instance: u16) -> Result<(), Error> {
        if instance == u16::MAX || instance != 0 && !self.definition.multiple {
            return Err(Error::BadRequest);
        }
        match self.instances.binary_search(&instance) {
            Ok(_) => Ok(()),
            Err(index) => self.instances.insert(index, instance).map_err(|_| Error::Internal),
        }
    }

    /// Sets the value of a resource or resource instance; tells whether it differs from what was there.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a place that the object does not have, [`Error::BadRequest`] for a value of another type, out of range or
    /// longer than `B` bytes, [`Error::Internal`] when there is no room for one more.
    pub fn set(&mut self, path: Path, value: Value<'_>) -> Result<bool, Error> {
        let at = self.at(path)?;
        let resource = self.definition.resource(at.resource).ok_or(Error::NotFound)?;
        if !resource.holds(&value) {
            return Err(Error::BadRequest);
        }
        self.keep(at, &value)
    }

    /// Removes a value; tells whether there was one.
    pub fn remove(&mut self, path: Path) -> bool {
        let Ok(at) = self.at(path) else { return false };
        let found = self.find(at).ok();
        found.map(|index| self.values.remove(index)).is_some()
    }

    /// Returns the value of a resource or resource instance.
    pub fn value(&self, path: Path) -> Option<Value<'_>> {
        self.read(self.at(path).ok()?)
    }

    /// Tells whether a server wrote, created or deleted something since the last call.
    pub const fn take_written(&mut self) -> bool {
        core::mem::replace(&mut self.is_written, false)
    }

    /// Takes what a server executed. Look after each turn: while one waits, a second is refused.
    pub const fn take_executed(&mut self) -> Option<Executed<B>> {
        self.executed.take()
    }

    /// The place of a value; of a resource with several instances all must be named.
    fn at(&self, path: Path) -> Result<At, Error> {
        let at = match *path.ids() {
            [object, instance, resource] if object == self.definition.id => {
                At { instance, resource, resource_instance: 0 }
            }
            [object, instance, resource, resource_instance] if object == self.definition.id => {
                At { instance, resource, resource_instance }
            }
            _ => return Err(Error::NotFound),
        };
        let is_array = self.definition.resource(at.resource).is_some_and(|resource| resource.multiple);
        let is_there = self.instances.binary_search(&at.instance).is_ok();
        if is_there && is_array == path.resource_instance_id().is_some() {
            Ok(at)
        } else {
            Err(Error::NotFound)
        }
    }

    fn find(&self, at: At) -> Result<usize, usize> {
        self.values.binary_search_by(|(other, _)| place(*other).cmp(&place(at)))
    }

    fn keep(&mut self, at: At, value: &Value<'_>) -> Result<bool, Error> {
        let kept = Kept::new(value).ok_or(Error::BadRequest)?;
        match self.find(at) {
            Ok(index) => {
                let place = self.values.get_mut(index).ok_or(Error::Internal)?;
                let is_changed = place.1 != kept;
                place.1 = kept;
                Ok(is_changed)
            }
            Err(index) => self.values.insert(index, (at, kept)).map(|()| true).map_err(|_| Error::Internal),
        }
    }

    /// Removes all values of a resource.
    fn clear(&mut self, instance: u16, resource: u16) {
        self.values.retain(|(at, _)| at.instance != instance || at.resource != resource);
    }

    fn resource(&self, resource: u16) -> Result<&'static ResourceDef, Error> {
        self.definition.resource(resource).ok_or(Error::NotFound)
    }
}

impl<const I: usize, const N: usize, const B: usize> Object for Held<I, N, B> {
    fn definition(&self) -> &'static ObjectDef {
        self.definition
    }

    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        self.instances.iter().copied().find(|instance| after.is_none_or(|after| *instance > after))
    }

    fn read(&self, at: At) -> Option<Value<'_>> {
        let (_, kept) = self.values.get(self.find(at).ok()?)?;
        Some(kept.value())
    }

    fn has(&self, instance: u16, resource: u16) -> bool {
        let Some(definition) = self.definition.resource(resource) else { return false };
        definition.mandatory
            || self.offered.contains(&resource)
            || self.next_resource_instance(instance, resource, None).is_some()
    }

    fn next_resource_instance(&self, instance: u16, resource: u16, after: Option<u16>) -> Option<u16> {
        let mut here =
            self.values.iter().filter(|(at, _)| at.instance == instance && at.resource == resource);
        let next = here.find(|(at, _)| after.is_none_or(|after| at.resource_instance > after));
        next.map(|(at, _)| at.resource_instance)
    }

    fn room(&self) -> Option<usize> {
        Some(N.saturating_sub(self.values.len()))
    }

    fn validate(&self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        match *change {
            Change::Set { value, .. } => Kept::<B>::new(&value).map(drop).ok_or(Error::BadRequest),
            Change::Reset { .. } => Ok(()),
            Change::Remove { resource, .. } => {
                let is_last =
                    self.values.iter().filter(|(at, _)| at.instance == instance && at.resource == resource);
                // LwM2M Core 1.2.1 §6.3.3: what is mandatory must not be lost.
                let is_needed = self.resource(resource)?.mandatory && is_last.count() <= 1;
                if is_needed { Err(Error::BadRequest) } else { Ok(()) }
            }
        }
    }

    fn apply(&mut self, instance: u16, change: &Change<'_>) -> Result<(), Error> {
        self.is_written = true;
        match *change {
            Change::Set { resource, resource_instance, value } => {
                self.keep(At { instance, resource, resource_instance }, &value).map(drop)
            }
            Change::Reset { resource } => {
                let definition = self.resource(resource)?;
                // What every instance has, and what there is no default of, stays as it is.
                if definition.multiple || !definition.mandatory {
                    self.clear(instance, resource);
                }
                Ok(())
            }
            Change::Remove { resource, resource_instance } => {
                let index =
                    self.find(At { instance, resource, resource_instance }).map_err(|_| Error::NotFound)?;
                self.values.remove(index);
                Ok(())
            }
        }
    }

    fn execute(
        &mut self,
        instance: u16,
        resource: u16,
        arguments: Arguments<'_>,
    ) -> Result<Completion, Error> {
        if self.executed.is_some() {
            return Err(Error::Unavailable);
        }
        let arguments = arguments.as_str().try_into().map_err(|_| Error::BadRequest)?;
        self.executed = Some(Executed { instance, resource, arguments });
        Ok(Completion::Done)
    }

    fn create(&mut self, instance: u16) -> Result<(), Error> {
        if !self.is_open {
            return Err(Error::MethodNotAllowed);
        }
        self.is_written = true;
        self.add(instance)
    }

    fn delete(&mut self, instance: u16) -> Result<(), Error> {
        if !self.is_open {
            return Err(Error::MethodNotAllowed);
        }
        self.is_written = true;
        self.instances.retain(|other| *other != instance);
        self.values.retain(|(at, _)| at.instance != instance);
        Ok(())
    }
}
