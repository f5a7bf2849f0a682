//! The trait that device makers implement (LwM2M Core 1.2.1 §6).
//!
//! Invariant: what a server sends is checked against the definition before an object sees it (operation, type, range,
//! existence), and every change of a request is validated before the first is applied.

use crate::{Arguments, Error, ObjectDef, Value};

/// Names a value inside an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// The object instance.
    pub instance: u16,
    /// The resource.
    pub resource: u16,
    /// The resource instance; 0 where the resource is single.
    pub resource_instance: u16,
}

/// One change of an object instance. A request consists of one or several.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Change<'a> {
    /// Gives a resource (instance) its value; it comes into being when it was not there.
    Set {
        /// The resource.
        resource: u16,
        /// The resource instance; 0 where the resource is single.
        resource_instance: u16,
        /// Of the type and in the range that the definition gives.
        value: Value<'a>,
    },
    /// Puts a resource back to its initial state: it goes, it takes its default, and one with resource instances loses
    /// all of them. Comes before the [`Change::Set`]s of the same request.
    Reset {
        /// The resource.
        resource: u16,
    },
    /// Deletes one resource instance.
    Remove {
        /// The resource.
        resource: u16,
        /// The resource instance.
        resource_instance: u16,
    },
}

/// When something asked of an object is finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completion {
    /// It is done.
    Done,
    /// It is under way; the answer follows once the device says so (`Client::complete`).
    Deferred,
}

/// An object with its instances: what a device maker implements.
///
/// Only [`definition`](Self::definition) and [`read`](Self::read) are needed for an object with the single instance 0
/// that is only read. What changes by itself is told to the client with `changed(path)`.
///
/// ```
/// use lwm2m_objects::{At, Change, Error, Object, ObjectDef, Value};
///
/// lwm2m_objects::object! {
///     /// A lamp (registered as 3311).
///     LAMP = 3311 version 1.0, multiple, optional {
///         5850 RW S M Boolean;
///         5851 RW S O Integer in 0, 100;
///     }
/// }
///
/// struct Lamp { on: bool, dimmer: i64 }
///
/// impl Object for Lamp {
///     fn definition(&self) -> &'static ObjectDef {
///         &LAMP
///     }
///
///     fn read(&self, at: At) -> Option<Value<'_>> {
///         match at.resource {
///             5850 => Some(Value::Boolean(self.on)),
///             5851 => Some(Value::Integer(self.dimmer)),
///             _ => None,
///         }
///     }
///
///     fn apply(&mut self, _instance: u16, change: &Change<'_>) -> Result<(), Error> {
///         match *change {
///             Change::Set { resource: 5850, value: Value::Boolean(on), .. } => self.on = on,
///             Change::Set { resource: 5851, value: Value::Integer(percent), .. } => self.dimmer = percent,
///             Change::Reset { resource: 5851 } => self.dimmer = 100,
///             _ => return Err(Error::MethodNotAllowed),
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Object {
    /// Returns the object's definition, always the same.
    fn definition(&self) -> &'static ObjectDef;

    /// Returns the least identifier of an instance above `after`, or the least of all.
    ///
    /// By default there is the single instance 0.
    fn next_instance(&self, after: Option<u16>) -> Option<u16> {
        if after.is_none() { Some(0) } else { None }
    }

    /// Returns the value, or nothing when it is not there. Also asked for resources of the bootstrap interface.
    fn read(&self, at: At) -> Option<Value<'_>>;

    /// Tells whether an instance has a resource.
    ///
    /// By default it has what is mandatory and what can be read; an object says so itself where an optional resource
    /// is only written or executed.
    fn has(&self, instance: u16, resource: u16) -> bool {
        let Some(definition) = self.definition().resource(resource) else { return false };
        let at = At { instance, resource, resource_instance: 0 };
        definition.mandatory
            || self.opaque_length(at).is_some()
            || if definition.multiple {
                self.next_resource_instance(instance, resource, None).is_some()
            } else {
                self.read(at).is_some()
            }
    }

    /// Returns the least identifier of a resource instance above `after`, or the least of all.
    ///
    /// By default they are numbered from 0 without gaps.
    fn next_resource_instance(&self, instance: u16, resource: u16, after: Option<u16>) -> Option<u16> {
        let next = match after {
            None => 0,
            Some(after) => after.checked_add(1)?,
        };
        self.read(At { instance, resource, resource_instance: next }).map(|_| next)
    }

    /// Returns a value that a resource had, of those that wait to be reported: the `index`th, the oldest first, with its time in
    /// seconds since 1970.
    ///
    /// By default none is kept: a report has the value as it is then.
    fn dated(&self, _at: At, _index: usize) -> Option<(i64, Value<'_>)> {
        None
    }

    /// Says that the samples of a resource up to this time have been reported, so that they can go.
    fn reported(&mut self, _at: At, _until: i64) {}

    /// Returns the length in bytes of an opaque that is read in chunks through [`read_opaque`](Self::read_opaque)
    /// instead of [`read`](Self::read).
    fn opaque_length(&self, _at: At) -> Option<u32> {
        None
    }

    /// Copies bytes of an opaque from `offset` into `out`, and returns how many: at least one while there are more.
    ///
    /// # Errors
    /// The bytes cannot be read now.
    fn read_opaque(&self, _at: At, _offset: u32, _out: &mut [u8]) -> Result<usize, Error> {
        Err(Error::Internal)
    }

    /// Says whether a change would be taken. It must have no effect, and what it accepts
    /// [`apply`](Self::apply) must accept. The instance may be one that is about to be created.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a value that does not suit, or another reason.
    fn validate(&self, _instance: u16, _change: &Change<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Returns how many values more there is room for, of an object that can be full. A request that wants more is refused as a whole.
    fn room(&self) -> Option<usize> {
        None
    }

    /// Makes a change that was validated.
    ///
    /// # Errors
    /// It failed all the same; the request ends there.
    fn apply(&mut self, _instance: u16, _change: &Change<'_>) -> Result<(), Error> {
        Err(Error::MethodNotAllowed)
    }

    /// Tells whether a written opaque goes to [`write_opaque`](Self::write_opaque) in chunks as they arrive, because it
    /// is too long to be held.
    fn is_streamed(&self, _resource: u16) -> bool {
        false
    }

    /// Takes a chunk of a long opaque. Chunks come in order; offset 0 starts anew, whatever came before.
    ///
    /// # Errors
    /// The transfer ends there.
    fn write_opaque(
        &mut self,
        _at: At,
        _offset: u32,
        _chunk: &[u8],
        _last: bool,
    ) -> Result<Completion, Error> {
        Err(Error::MethodNotAllowed)
    }

    /// Executes a resource.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for arguments that are not understood, or another reason.
    fn execute(
        &mut self,
        _instance: u16,
        _resource: u16,
        _arguments: Arguments<'_>,
    ) -> Result<Completion, Error> {
        Err(Error::MethodNotAllowed)
    }

    /// Creates an instance with its defaults; the values of the request follow as changes.
    ///
    /// # Errors
    /// [`Error::MethodNotAllowed`] when instances cannot be created, [`Error::Internal`] when there is no room.
    fn create(&mut self, _instance: u16) -> Result<(), Error> {
        Err(Error::MethodNotAllowed)
    }

    /// Deletes an instance.
    ///
    /// # Errors
    /// [`Error::MethodNotAllowed`] when the instance cannot be deleted.
    fn delete(&mut self, _instance: u16) -> Result<(), Error> {
        Err(Error::MethodNotAllowed)
    }
}
