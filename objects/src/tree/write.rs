//! Writing, creating and deleting (LwM2M Core 1.2.1 §6.3.3, §6.3.6, §6.3.7).
//!
//! Invariant: the payload is walked twice: everything is validated, then everything is applied.

use zeroize::Zeroizing;

use super::{Context, Right, Tree, has_instance, instances};
use crate::format::{Item, Items, Raw};
use crate::{
    At, Change, Completion, Content, Error, Format, Kind, Level, Object, ObjectDef, ObjectLink, Outcome,
    Path, ResourceDef, Target, UNASSIGNED, Value, WriteMode,
};

/// The longest value that does not stand in the payload as it is, in bytes: an opaque in base64, a text with escapes.
// Departure: a longer one is refused with 4.13; it belongs into another format, and would have to be held. LwM2M Transport 1.2.1
// §6.4.4 has that code for a Write alone; of a Create and a Write-Composite it says as well what is wrong (RFC 7252 §5.9.2.9).
const LONGEST_DECODED: usize = if cfg!(feature = "json") { 1024 } else { 256 };

/// What a payload may contain, beyond what the definition says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Only what is writable.
    Write,
    /// What is not writable is ignored.
    Create,
    /// Everything that has a value.
    Bootstrap,
}

impl Tree<'_, '_, '_> {
    pub(super) fn write(
        &mut self,
        target: &Target<'_>,
        mode: WriteMode,
        content: Content<'_>,
        context: &Context<'_>,
    ) -> Result<Outcome, Error> {
        let path = target.path;
        // An optional resource comes into being by a write to it; a resource instance does not (LwM2M Core 1.2.1 §6.3.3).
        let place = self.locate_for(path, path.level() == Level::Resource)?;
        let instance = place.instance.ok_or(Error::MethodNotAllowed)?;
        self.check_access(&place, Right::Write, context)?;
        if let Some(definition) = place.resource {
            // A Partial Update of one value has no meaning.
            let single = !definition.multiple || path.level() == Level::ResourceInstance;
            if !definition.operations.is_writable() || mode == WriteMode::Partial && single {
                return Err(Error::MethodNotAllowed);
            }
            check_format(definition, path, content.format)?;
        }
        let items = Items::new(target, content)?;
        let replace = mode == WriteMode::Replace && path.level() < Level::ResourceInstance;
        let write = Writing { path, instance, items, rule: Rule::Write, replace };
        write.validate(self, place.object)?;
        let object = self.object_mut(path.object_id().unwrap_or(UNASSIGNED)).ok_or(Error::NotFound)?;
        write.apply(object)
    }

    /// Tells whether an opaque written there goes to its object in chunks, by [`write_chunk`](Self::write_chunk).
    pub fn is_streamed(&self, path: Path) -> bool {
        let [object, _, resource, ..] = *path.ids() else { return false };
        self.object(object).is_some_and(|object| object.is_streamed(resource))
    }

    /// Writes a chunk of an opaque that is [streamed](Self::is_streamed): the chunks of a request with
    /// [`Format::OPAQUE`], in order and without gaps, as block-wise transfer gives them.
    ///
    /// # Errors
    /// As a Write; the transfer ends there.
    pub fn write_chunk(
        &mut self,
        path: Path,
        context: &Context<'_>,
        offset: u32,
        chunk: &[u8],
        last: bool,
    ) -> Result<Outcome, Error> {
        let place = self.locate(path)?;
        self.check_access(&place, Right::Write, context)?;
        let definition = place.resource.ok_or(Error::MethodNotAllowed)?;
        if !definition.operations.is_writable() || !place.object.is_streamed(definition.id) {
            return Err(Error::MethodNotAllowed);
        }
        check_format(definition, path, Format::OPAQUE)?;
        let [object, instance, resource, ..] = *path.ids() else { return Err(Error::MethodNotAllowed) };
        let at = At { instance, resource, resource_instance: path.resource_instance_id().unwrap_or(0) };
        let object = self.object_mut(object).ok_or(Error::NotFound)?;
        Ok(match object.write_opaque(at, offset, chunk, last)? {
            _ if !last => Outcome::Continue,
            Completion::Done => Outcome::Changed,
            Completion::Deferred => Outcome::Deferred,
        })
    }

    pub(super) fn create(
        &mut self,
        target: &Target<'_>,
        content: Content<'_>,
        context: &Context<'_>,
    ) -> Result<Outcome, Error> {
        let path = target.path;
        if path.level() != Level::Object {
            return Err(Error::MethodNotAllowed);
        }
        let place = self.locate(path)?;
        self.check_access(&place, Right::Create, context)?;
        let definition = place.object.definition();
        // OMA ETS LightweightM2M-1.1-int-680: there can be no further one.
        if !definition.multiple && has_instance(place.object, 0) {
            return Err(Error::MethodNotAllowed);
        }
        let items = Items::new(target, content)?;

        let mut named = None;
        for item in items {
            let instance = item?.path.instance_id();
            if named.is_some_and(|named| Some(named) != instance) {
                return Err(Error::BadRequest);
            }
            named = instance;
        }
        let instance = match named {
            Some(instance) if instance != UNASSIGNED => instance,
            _ if !definition.multiple => 0,
            _ => free_instance(place.object).ok_or(Error::Internal)?,
        };
        if has_instance(place.object, instance) || instance != 0 && !definition.multiple {
            return Err(Error::BadRequest);
        }
        // LwM2M Core 1.2.1 §6.3.6: what is mandatory must be there, as far as a server can write it at all.
        let needed =
            definition.resources.iter().filter(|needed| needed.mandatory && needed.operations.is_writable());
        for needed in needed {
            if !contains(&items, named, needed.id)? {
                return Err(Error::BadRequest);
            }
        }
        let path = Path::instance(place.id, instance);
        let write = Writing { path, instance, items, rule: Rule::Create, replace: false };
        write.validate(self, place.object)?;
        let object = self.object_mut(definition.id).ok_or(Error::NotFound)?;
        object.create(instance)?;
        if let Err(error) = write.apply(object) {
            // Nothing is created on an error; an object that creates can delete.
            let _ = object.delete(instance);
            return Err(error);
        }
        Ok(Outcome::Created(Some(path)))
    }

    pub(super) fn delete(&mut self, path: Path, context: &Context<'_>) -> Result<Outcome, Error> {
        let place = self.locate(path)?;
        match *path.ids() {
            [object, instance] => {
                self.check_access(&place, Right::Delete, context)?;
                if path == DEVICE {
                    return Err(Error::MethodNotAllowed);
                }
                self.object_mut(object).ok_or(Error::NotFound)?.delete(instance)?;
            }
            [object, instance, resource, resource_instance] => {
                self.check_access(&place, Right::Write, context)?;
                if !place.resource.is_some_and(|definition| definition.operations.is_writable()) {
                    return Err(Error::MethodNotAllowed);
                }
                let change = Change::Remove { resource, resource_instance };
                place.object.validate(instance, &change)?;
                self.object_mut(object).ok_or(Error::NotFound)?.apply(instance, &change)?;
            }
            _ => return Err(Error::MethodNotAllowed),
        }
        Ok(Outcome::Deleted)
    }
}

/// The Device instance, which is never deleted (LwM2M Core 1.2.1 §6.3.7).
pub(super) const DEVICE: Path = Path::instance(3, 0);

/// The changes of one instance that a payload asks for.
pub(super) struct Writing<'a> {
    /// What is written: the instance, or one resource or resource instance of it.
    pub(super) path: Path,
    pub(super) instance: u16,
    pub(super) items: Items<'a>,
    pub(super) rule: Rule,
    /// Whether what is not in the payload is reset.
    pub(super) replace: bool,
}

impl<'a> Writing<'a> {
    /// Checks everything against the definition, and asks the object. Returns how many values more the object has to hold.
    pub(super) fn validate(&self, tree: &Tree<'_, '_, '_>, object: &dyn Object) -> Result<usize, Error> {
        let mut more = 0_usize;
        let mut freed = 0_usize;
        // What comes as base64 may be a key.
        let mut scratch = Zeroizing::new([0; LONGEST_DECODED]);
        let has_room = object.room();
        self.try_for_each_reset(object.definition(), object, &mut |change| {
            if let Change::Reset { resource } = change
                && has_room.is_some()
            {
                freed = freed.saturating_add(values(object, self.instance, resource));
            }
            object.validate(self.instance, &change)
        })?;
        for item in self.items {
            let Some((resource, change)) = self.change(object.definition(), &item?, &mut *scratch)? else {
                continue;
            };
            // While bootstrapping, what a link refers to may still follow.
            if let Change::Set { value: Value::ObjectLink(link), .. } = change
                && self.rule != Rule::Bootstrap
                && !leads_somewhere(tree, link)
            {
                return Err(Error::BadRequest);
            }
            if !object.is_streamed(resource) {
                object.validate(self.instance, &change)?;
            }
            if let Change::Set { resource, resource_instance, .. } = change
                && has_room.is_some()
            {
                let at = At { instance: self.instance, resource, resource_instance };
                // Of an array that is replaced nothing stays.
                let is_array = object.definition().resource(resource).is_some_and(|it| it.multiple);
                let is_new = self.replace && is_array || object.read(at).is_none();
                more = more.saturating_add(usize::from(is_new));
            }
        }
        if has_room.is_some_and(|room| more > room.saturating_add(freed)) {
            return Err(Error::Internal);
        }
        Ok(more)
    }

    /// Makes the changes.
    pub(super) fn apply(&self, object: &mut (dyn Object + '_)) -> Result<Outcome, Error> {
        let mut scratch = Zeroizing::new([0; LONGEST_DECODED]);
        let definition = object.definition();
        let mut outcome = Outcome::Changed;
        for resource in definition.resources {
            if self.is_reset(resource, object)? {
                object.apply(self.instance, &Change::Reset { resource: resource.id })?;
            }
        }
        for item in self.items {
            match self.change(definition, &item?, &mut *scratch)? {
                Some((_, Change::Set { resource, resource_instance, value: Value::Opaque(bytes) }))
                    if object.is_streamed(resource) =>
                {
                    let at = At { instance: self.instance, resource, resource_instance };
                    if object.write_opaque(at, 0, bytes, true)? == Completion::Deferred {
                        outcome = Outcome::Deferred;
                    }
                }
                Some((_, change)) => object.apply(self.instance, &change)?,
                None => {}
            }
        }
        Ok(outcome)
    }

    fn try_for_each_reset(
        &self,
        definition: &ObjectDef,
        object: &dyn Object,
        each: &mut dyn FnMut(Change<'static>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for resource in definition.resources {
            if self.is_reset(resource, object)? {
                each(Change::Reset { resource: resource.id })?;
            }
        }
        Ok(())
    }

    /// Tells whether a resource is reset first: one that is not in the payload, and every array, whose old instances go.
    fn is_reset(&self, resource: &ResourceDef, object: &dyn Object) -> Result<bool, Error> {
        if !self.replace || self.path.resource_id().is_some_and(|id| id != resource.id) {
            return Ok(false);
        }
        let reached = match self.rule {
            // An account starts afresh; of other objects only that is touched which servers may write.
            Rule::Bootstrap => {
                let account = matches!(object.definition().id, 0 | 1 | 2 | 21 | 23 | 24);
                account && resource.kind != Kind::Nothing || resource.operations.is_writable()
            }
            Rule::Write | Rule::Create => resource.operations.is_writable(),
        };
        let reset = reached && has_instance(object, self.instance) && object.has(self.instance, resource.id);
        Ok(reset && (resource.multiple || !contains(&self.items, self.path.instance_id(), resource.id)?))
    }

    /// Turns an entry of the payload into a change; nothing when it is ignored, or belongs to another instance.
    fn change<'s>(
        &self,
        definition: &ObjectDef,
        item: &Item<'s>,
        scratch: &'s mut [u8],
    ) -> Result<Option<(u16, Change<'s>)>, Error> {
        let here = item.path.instance_id().is_some_and(|id| id == self.instance || id == UNASSIGNED);
        if !here || item.path.object_id() != Some(definition.id) {
            return Ok(None);
        }
        let Some(resource) = item.path.resource_id() else {
            // An instance without resources.
            return if item.raw == Raw::Empty { Ok(None) } else { Err(Error::BadRequest) };
        };
        let Some(definition) = definition.resource(resource) else {
            // LwM2M Core 1.2.1 §6.3.3: unknown resources are ignored.
            return Ok(None);
        };
        match self.rule {
            Rule::Write if !definition.operations.is_writable() => return Err(Error::MethodNotAllowed),
            Rule::Create if !definition.operations.is_writable() => return Ok(None),
            _ => {}
        }
        let resource_instance = item.path.resource_instance_id();
        if item.raw == Raw::Empty && definition.multiple && resource_instance.is_none() {
            return Ok(None);
        }
        if resource_instance.is_some() != definition.multiple {
            return Err(Error::BadRequest);
        }
        if let (Raw::Empty, Some(resource_instance)) = (item.raw, resource_instance) {
            return Ok(Some((resource, Change::Remove { resource, resource_instance })));
        }
        let value = item.raw.value(definition.kind, scratch)?;
        if !definition.holds(&value) {
            return Err(Error::BadRequest);
        }
        let resource_instance = resource_instance.unwrap_or(0);
        Ok(Some((resource, Change::Set { resource, resource_instance, value })))
    }
}

/// A format of single values must suit the resource.
pub(super) fn check_format(definition: &ResourceDef, path: Path, format: Format) -> Result<(), Error> {
    let array = definition.multiple && path.level() == Level::Resource;
    let suits = match format {
        Format::TEXT | Format::CBOR => !array,
        Format::OPAQUE => !array && definition.kind == Kind::Opaque,
        _ => true,
    };
    if suits { Ok(()) } else { Err(Error::UnsupportedFormat) }
}

/// How many values a resource has.
fn values(object: &dyn Object, instance: u16, resource: u16) -> usize {
    let mut next = object.next_resource_instance(instance, resource, None);
    let mut count = 0_usize;
    while let Some(id) = next {
        count = count.saturating_add(1);
        next = object.next_resource_instance(instance, resource, Some(id));
    }
    count
}

/// Tells whether a payload has a resource of an instance.
fn contains(items: &Items<'_>, instance: Option<u16>, resource: u16) -> Result<bool, Error> {
    for item in *items {
        let path = item?.path;
        if path.instance_id() == instance && path.resource_id() == Some(resource) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn free_instance(object: &dyn Object) -> Option<u16> {
    let mut free = 0_u16;
    for instance in instances(object) {
        if instance != free {
            break;
        }
        free = free.checked_add(1).filter(|free| *free != UNASSIGNED)?;
    }
    Some(free)
}

/// LwM2M Core 1.2.1 §6.3.3: a link must not dangle.
fn leads_somewhere(tree: &Tree<'_, '_, '_>, link: ObjectLink) -> bool {
    link == ObjectLink::NULL
        || tree
            .object(link.object)
            .is_some_and(|object| link.instance == UNASSIGNED || has_instance(object, link.instance))
}
