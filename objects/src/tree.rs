//! The objects of a device as one tree, and every operation on it (LwM2M Core 1.2.1 §6.1, §6.3, §6.4).
//!
//! Invariant: an operation is checked as a whole (target, right, what the definition allows, format, type, range, the
//! object's own opinion) before anything changes.
//!
//! An answer is written to a [`Sink`] and never held: for a block of a long one, the operation is performed again on a
//! window.

mod bootstrap;
#[cfg(feature = "composite")]
mod composite;
mod discover;
mod read;
mod write;

use lwm2m_coap::Sink;

use crate::{
    At, Attributes, Completion, Error, Format, Level, Object, Operation, Outcome, Path, ResourceDef, Value,
    Version,
};

/// All objects of a device: those of the client itself, and those of the device maker.
///
/// ```
/// use lwm2m_coap::Buffer;
/// use lwm2m_objects::{At, Context, Format, Object, ObjectDef, Operation, Outcome, Tree, Value, defs, path};
///
/// struct Temperature { celsius: f64 }
///
/// impl Object for Temperature {
///     fn definition(&self) -> &'static ObjectDef {
///         &defs::TEMPERATURE
///     }
///
///     fn read(&self, at: At) -> Option<Value<'_>> {
///         (at.resource == 5700).then_some(Value::Float(self.celsius))
///     }
/// }
///
/// let mut temperature = Temperature { celsius: 21.5 };
/// let mut objects: [&mut dyn Object; 1] = [&mut temperature];
/// let mut tree = Tree::new(&mut [], &mut objects);
///
/// let mut space = [0; 64];
/// let mut body = Buffer::new(&mut space);
/// let read = Operation::Read { target: path!("/3303/0/5700").into(), accept: Some(Format::TEXT) };
/// assert_eq!(tree.perform(&read, &Context::default(), &mut body), Ok(Outcome::Content(Format::TEXT)));
/// assert_eq!(body.written(), b"21.5");
/// ```
pub struct Tree<'t, 'c, 'o> {
    core: &'t mut [&'c mut (dyn Object + 'c)],
    objects: &'t mut [&'o mut (dyn Object + 'o)],
}

/// On whose behalf an operation is performed.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What the server may do.
    pub access: &'a dyn Access,
    /// The attributes that the server attached to exactly this path.
    pub attributes: &'a dyn Fn(Path) -> Attributes,
    /// The enabler version that the client speaks.
    pub version: Version,
    /// The format of an answer when none is asked for.
    pub format: Format,
}

impl Default for Context<'_> {
    /// Every right, no attributes, LwM2M 1.1 and SenML CBOR.
    fn default() -> Self {
        Self {
            access: &Unrestricted,
            attributes: &|_| Attributes::default(),
            version: Version::new(1, 1),
            format: Format::SENML_CBOR,
        }
    }
}

/// Decides what a server may do (LwM2M Core 1.2.1 §7.3).
pub trait Access {
    /// Tells whether the server has the right to an instance, or to a whole object when it creates.
    fn allows(&self, tree: &Tree<'_, '_, '_>, object: u16, instance: Option<u16>, right: Right) -> bool;
}

/// A right to an object instance, as the bit it has in an access control list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// Read, observe, and write attributes.
    Read = 1,
    /// Write.
    Write = 2,
    /// Execute.
    Execute = 4,
    /// Delete.
    Delete = 8,
    /// Create.
    Create = 16,
}

/// Allows everything: there is a single server.
#[derive(Clone, Copy, Debug)]
pub struct Unrestricted;

impl Access for Unrestricted {
    fn allows(&self, _: &Tree<'_, '_, '_>, _: u16, _: Option<u16>, _: Right) -> bool {
        true
    }
}

impl<'t, 'c, 'o> Tree<'t, 'c, 'o> {
    /// Puts the client's own objects before those of the device maker: of two with the same identifier the first counts.
    pub fn new(
        core: &'t mut [&'c mut (dyn Object + 'c)],
        objects: &'t mut [&'o mut (dyn Object + 'o)],
    ) -> Self {
        Self { core, objects }
    }

    /// Performs an operation of the device management, reporting or bootstrap interface, and writes what there is to
    /// answer. Observe and its end are a Read; Write-Attributes checks what the owner then attaches; Bootstrap-Finish and
    /// the registration interface are the owner's.
    ///
    /// Nothing was changed when it fails, unless an object broke its word in [`Object::apply`].
    ///
    /// # Errors
    /// The response code of LwM2M Core 1.2.1 §6. A body that was begun is void.
    pub fn perform(
        &mut self,
        operation: &Operation<'_>,
        context: &Context<'_>,
        body: &mut dyn Sink,
    ) -> Result<Outcome, Error> {
        // LwM2M Core 1.2.1 §7.4: that JSON is of LwM2M 1.0 alone.
        if context.version > Version::new(1, 0) {
            match operation.formats() {
                (Some(Format::JSON), _) => return Err(Error::NotAcceptable),
                (_, Some(Format::JSON)) => return Err(Error::UnsupportedFormat),
                _ => {}
            }
        }
        match *operation {
            Operation::Read { ref target, accept }
            | Operation::Observe { ref target, accept }
            | Operation::CancelObservation { ref target, accept } => self.read(target, accept, context, body),
            #[cfg(feature = "composite")]
            Operation::ReadComposite { ref paths, accept }
            | Operation::ObserveComposite { ref paths, accept }
            | Operation::CancelObservationComposite { ref paths, accept } => {
                self.read_composite(paths, accept, context, body)
            }
            #[cfg(feature = "composite")]
            Operation::WriteComposite { prefix, content } => self.write_composite(prefix, content, context),
            Operation::Discover { ref target, depth } => self.discover(target, depth, context, body),
            Operation::Write { ref target, mode, content } => self.write(target, mode, content, context),
            Operation::WriteAttributes { ref target, ref change } => {
                self.write_attributes(target.path, change, context)
            }
            Operation::Execute { ref target, arguments } => {
                if target.path.level() != Level::Resource {
                    return Err(Error::MethodNotAllowed);
                }
                let place = self.locate(target.path)?;
                self.check_access(&place, Right::Execute, context)?;
                let &[object, instance, resource] = target.path.ids() else {
                    return Err(Error::MethodNotAllowed);
                };
                if !place.resource.is_some_and(|definition| definition.operations.is_executable()) {
                    return Err(Error::MethodNotAllowed);
                }
                let object = self.object_mut(object).ok_or(Error::NotFound)?;
                Ok(match object.execute(instance, resource, arguments)? {
                    Completion::Done => Outcome::Changed,
                    Completion::Deferred => Outcome::Deferred,
                })
            }
            Operation::Create { ref target, content } => self.create(target, content, context),
            Operation::Delete { ref target } => self.delete(target.path, context),
            Operation::BootstrapWrite { path, content } => self.bootstrap_write(path, content),
            Operation::BootstrapDiscover { path } => self.bootstrap_discover(path, context, body),
            Operation::BootstrapRead { path, accept } => self.bootstrap_read(path, accept, context, body),
            Operation::BootstrapDelete { path } => self.bootstrap_delete(path),
            Operation::BootstrapRequest { .. }
            | Operation::BootstrapFinish
            | Operation::Register { .. }
            | Operation::Update { .. }
            | Operation::Deregister { .. }
            | Operation::Send { .. } => Err(Error::MethodNotAllowed),
            #[cfg(not(feature = "composite"))]
            Operation::ReadComposite { .. }
            | Operation::ObserveComposite { .. }
            | Operation::CancelObservationComposite { .. }
            | Operation::WriteComposite { .. } => Err(Error::MethodNotAllowed),
        }
    }

    /// Returns the value of a single resource or of a resource instance, whoever may read it.
    pub fn value(&self, path: Path) -> Option<Value<'_>> {
        let &[object, instance, resource, ..] = path.ids() else { return None };
        let object = self.object(object)?;
        let several = path.resource_instance_id();
        if object.definition().resource(resource)?.multiple != several.is_some() {
            return None;
        }
        object.read(At { instance, resource, resource_instance: several.unwrap_or(0) })
    }

    /// Returns an object.
    pub fn object(&self, id: u16) -> Option<&(dyn Object + '_)> {
        self.objects().find(|object| object.definition().id == id)
    }

    /// Returns an object to change.
    pub fn object_mut(&mut self, id: u16) -> Option<&mut (dyn Object + '_)> {
        let index = self.objects().position(|object| object.definition().id == id)?;
        match index.checked_sub(self.core.len()) {
            None => self.core.get_mut(index).map(|object| &mut **object as &mut dyn Object),
            Some(index) => self.objects.get_mut(index).map(|object| &mut **object as &mut dyn Object),
        }
    }

    /// Tells whether there is an object instance.
    pub fn has_instance(&self, object: u16, instance: u16) -> bool {
        self.object(object).is_some_and(|object| has_instance(object, instance))
    }

    /// Iterates over the objects.
    pub fn objects(&self) -> impl Iterator<Item = &(dyn Object + '_)> {
        (0..).map_while(|index| self.nth(index))
    }

    fn nth(&self, index: usize) -> Option<&(dyn Object + '_)> {
        match index.checked_sub(self.core.len()) {
            None => self.core.get(index).map(|object| &**object as &dyn Object),
            Some(index) => self.objects.get(index).map(|object| &**object as &dyn Object),
        }
    }

    /// Finds what a path of the device management interface names.
    fn locate(&self, path: Path) -> Result<Place<'_>, Error> {
        self.locate_for(path, false)
    }

    /// Finds what a path names. A writable resource may be absent when it is about to be written.
    fn locate_for(&self, path: Path, written: bool) -> Result<Place<'_>, Error> {
        let id = path.object_id().ok_or(Error::MethodNotAllowed)?;
        // LwM2M Core 1.2.1 §7.3: credentials are out of reach but for bootstrapping.
        if is_hidden(id) {
            return Err(Error::Unauthorized);
        }
        let object = self.object(id).ok_or(Error::NotFound)?;
        let mut place = Place { object, id, instance: path.instance_id(), resource: None };
        let Some(instance) = place.instance else { return Ok(place) };
        if !has_instance(object, instance) {
            return Err(Error::NotFound);
        }
        let Some(resource) = path.resource_id() else { return Ok(place) };
        let definition = object.definition().resource(resource).ok_or(Error::NotFound)?;
        let excused = written && definition.operations.is_writable();
        if !excused && !object.has(instance, resource) {
            return Err(Error::NotFound);
        }
        place.resource = Some(definition);
        if let Some(resource_instance) = path.resource_instance_id() {
            // A path that goes below a single resource breaks the path rules.
            if !definition.multiple {
                return Err(Error::MethodNotAllowed);
            }
            let before = resource_instance.checked_sub(1);
            if object.next_resource_instance(instance, resource, before) != Some(resource_instance) {
                return Err(Error::NotFound);
            }
        }
        Ok(place)
    }

    fn check_access(&self, place: &Place<'_>, right: Right, context: &Context<'_>) -> Result<(), Error> {
        let allowed = context.access.allows(self, place.id, place.instance, right);
        if allowed { Ok(()) } else { Err(Error::Unauthorized) }
    }

    fn write_attributes(
        &self,
        path: Path,
        change: &crate::AttributesChange,
        context: &Context<'_>,
    ) -> Result<Outcome, Error> {
        let place = self.locate(path)?;
        if place.instance.is_some() {
            self.check_access(&place, Right::Read, context)?;
        }
        if place.resource.is_some_and(|definition| !definition.operations.is_readable()) {
            return Err(Error::MethodNotAllowed);
        }
        change.set().check()?;
        change.set().check_place(path.level(), place.resource.map(|definition| definition.kind))?;
        change.apply(&(context.attributes)(path)).check()?;
        Ok(Outcome::Changed)
    }
}

/// What a path names.
struct Place<'a> {
    object: &'a dyn Object,
    id: u16,
    instance: Option<u16>,
    resource: Option<&'static ResourceDef>,
}

/// Objects that hold credentials.
const fn is_hidden(object: u16) -> bool {
    matches!(object, 0 | 21 | 23)
}

fn has_instance(object: &dyn Object, instance: u16) -> bool {
    object.next_instance(instance.checked_sub(1)) == Some(instance)
}

/// Iterates over the instances of an object.
fn instances(object: &dyn Object) -> impl Iterator<Item = u16> {
    core::iter::successors(object.next_instance(None), |after| object.next_instance(Some(*after)))
}

/// Iterates over the instances of a resource.
fn resource_instances(object: &dyn Object, instance: u16, resource: u16) -> impl Iterator<Item = u16> {
    let next = move |after| object.next_resource_instance(instance, resource, after);
    core::iter::successors(next(None), move |after| next(Some(*after)))
}
