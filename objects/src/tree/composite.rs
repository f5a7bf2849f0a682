//! Operations on several places at once (LwM2M Core 1.2.1 §6.3.8, §6.3.9, §6.4.4).
//!
//! Invariant: of what a server may not see nothing is told, and of what it writes all happens or nothing.

use lwm2m_coap::Sink;

use super::read::Readable;
use super::write::{Rule, Writing};
use super::{Context, Right, Tree, instances, is_hidden};
use crate::format::{Item, Items, Raw, Source, Visitor, encode};
use crate::{At, Content, Error, Format, Level, Object, Outcome, Path, Paths, Target, UNASSIGNED, Version};

impl Tree<'_, '_, '_> {
    /// What is there of the paths and may be read, in one pack; what is not is left out.
    #[inline(never)]
    pub(super) fn read_composite(
        &self,
        paths: &Paths<'_>,
        accept: Option<Format>,
        context: &Context<'_>,
        body: &mut dyn Sink,
    ) -> Result<Outcome, Error> {
        check_version(context)?;
        let preferred = if is_pack(context.format) { context.format } else { Format::SENML_CBOR };
        let format = accept.unwrap_or(preferred);
        if !is_pack(format) {
            return Err(Error::NotAcceptable);
        }
        let readable = Readable { tree: self, access: context.access, dated_until: None };
        let selected = Selected { readable, paths };
        let mut is_empty = true;
        selected.visit(Path::ROOT, &mut |_, _| {
            is_empty = false;
            Ok(())
        })?;
        if is_empty && self.is_denied(paths, context)? {
            return Err(Error::Unauthorized);
        }
        encode(format, &Target { prefix: paths.prefix(), path: Path::ROOT }, &selected, body)?;
        Ok(Outcome::Content(format))
    }

    /// Writes a report of what the server may read of the paths, in SenML CBOR (LwM2M Core 1.2.1 §6.4.7): of a resource with samples
    /// up to `until`, in seconds since 1970, those with their times; of another one its value as it is.
    ///
    /// # Errors
    /// Those of the objects and of the sink.
    pub fn report(
        &self,
        paths: &Paths<'_>,
        until: Option<i64>,
        context: &Context<'_>,
        body: &mut dyn Sink,
    ) -> Result<(), Error> {
        let readable = Readable { tree: self, access: context.access, dated_until: until };
        let target = Target { prefix: paths.prefix(), path: Path::ROOT };
        encode(Format::SENML_CBOR, &target, &Selected { readable, paths }, body)
    }

    /// Tells the objects that a report up to this time has arrived, of what the server may read.
    ///
    /// # Errors
    /// The paths cannot be read.
    pub fn reported(&mut self, paths: &Paths<'_>, until: i64, context: &Context<'_>) -> Result<(), Error> {
        paths.try_for_each(&mut |path| {
            let mut index = 0_usize;
            while let Some(id) = self.id_at(index) {
                index = index.saturating_add(1);
                let mut next = None;
                while let Some(instance) = self.object(id).and_then(|object| object.next_instance(next)) {
                    next = Some(instance);
                    let is_meant = is_meant(id, path.object_id()) && is_meant(instance, path.instance_id());
                    if is_meant
                        && !is_hidden(id)
                        && context.access.allows(self, id, Some(instance), Right::Read)
                        && let Some(object) = self.object_mut(id)
                    {
                        tell(object, instance, path, until);
                    }
                }
            }
            Ok(())
        })
    }

    /// Tells whether some of the paths lead to what the server has no right to.
    fn is_denied(&self, paths: &Paths<'_>, context: &Context<'_>) -> Result<bool, Error> {
        let mut is_denied = false;
        paths.try_for_each(&mut |path| {
            let Some(id) = path.object_id() else { return Ok(()) };
            is_denied |= is_hidden(id);
            if let Some(object) = self.object(id) {
                let meant = |instance: &u16| path.instance_id().is_none_or(|only| only == *instance);
                is_denied |= instances(object)
                    .filter(meant)
                    .any(|instance| !context.access.allows(self, id, Some(instance), Right::Read));
            }
            Ok(())
        })?;
        Ok(is_denied)
    }

    /// Writes what a pack has, if all of it exists and may be written. What is not named stays.
    #[inline(never)]
    pub(super) fn write_composite(
        &mut self,
        prefix: Option<&str>,
        content: Content<'_>,
        context: &Context<'_>,
    ) -> Result<Outcome, Error> {
        check_version(context)?;
        let is_patch = matches!(content.format, Format::SENML_ETCH_CBOR | Format::SENML_ETCH_JSON);
        // Departure: LwM2M Transport 1.2.1 §6.4.4 has 4.15 for a Write and for a Read-Composite, and forgets it here; RFC 8132 §3.4
        // has it for a patch in a format that is not supported.
        if !is_patch && !is_pack(content.format) {
            return Err(Error::UnsupportedFormat);
        }
        let items = Items::new(&Target { prefix, path: Path::ROOT }, content)?;
        let mut is_empty = true;
        for item in items {
            let Item { path, raw, .. } = item?;
            is_empty = false;
            // Its instance and the right to it first, then the rest (LwM2M Core 1.2.1 §7.3).
            let instance = instance_of(path).ok_or(Error::MethodNotAllowed)?;
            self.check_access(&self.locate(instance)?, Right::Write, context)?;
            let place = self.locate(path)?;
            // Departure: what goes to its object in chunks cannot be all or nothing.
            let is_streamed = path.resource_id().is_some_and(|resource| place.object.is_streamed(resource));
            // Only an instance of a resource can go (RFC 8790 §3.2).
            if raw == Raw::Empty && path.level() != Level::ResourceInstance {
                return Err(Error::BadRequest);
            }
            if is_streamed || !place.resource.is_some_and(|definition| definition.operations.is_writable()) {
                return Err(Error::MethodNotAllowed);
            }
        }
        if is_empty {
            return Err(Error::BadRequest);
        }
        // Objects that can be full, with how many values more they have to hold.
        let mut filled = heapless::Vec::<(u16, usize), FILLED>::new();
        try_for_each_instance(&items, &mut |writing| {
            let id = writing.path.object_id().unwrap_or(UNASSIGNED);
            let object = self.object(id).ok_or(Error::NotFound)?;
            let more = writing.validate(self, object)?;
            let (Some(room), 1..) = (object.room(), more) else { return Ok(()) };
            let index = match filled.iter().position(|(other, _)| *other == id) {
                Some(index) => index,
                None => {
                    filled.push((id, 0)).map_err(|_| Error::Internal)?;
                    filled.len().saturating_sub(1)
                }
            };
            let (_, sum) = filled.get_mut(index).ok_or(Error::Internal)?;
            *sum = sum.saturating_add(more);
            if *sum > room { Err(Error::Internal) } else { Ok(()) }
        })?;
        try_for_each_instance(&items, &mut |writing| {
            let id = writing.path.object_id().unwrap_or(UNASSIGNED);
            writing.apply(self.object_mut(id).ok_or(Error::NotFound)?).map(|_| ())
        })?;
        Ok(Outcome::Changed)
    }
}

/// The most objects that can be full to which one Write-Composite adds values.
const FILLED: usize = 16;

fn is_meant(id: u16, only: Option<u16>) -> bool {
    only.is_none_or(|only| only == id)
}

/// Tells an object that what an instance has at or below a path was reported.
fn tell(object: &mut dyn Object, instance: u16, path: Path, until: i64) {
    let readable = object.definition().resources.iter().filter(|resource| resource.operations.is_readable());
    for definition in readable.filter(|resource| is_meant(resource.id, path.resource_id())) {
        let resource = definition.id;
        if !definition.multiple {
            object.reported(At { instance, resource, resource_instance: 0 }, until);
            continue;
        }
        let mut next = object.next_resource_instance(instance, resource, None);
        while let Some(resource_instance) = next {
            next = object.next_resource_instance(instance, resource, Some(resource_instance));
            if is_meant(resource_instance, path.resource_instance_id()) {
                object.reported(At { instance, resource, resource_instance }, until);
            }
        }
    }
}

/// LwM2M 1.0 has no composite operations.
fn check_version(context: &Context<'_>) -> Result<(), Error> {
    if context.version < Version::new(1, 1) { Err(Error::MethodNotAllowed) } else { Ok(()) }
}

/// Formats whose records have whole paths.
const fn is_pack(format: Format) -> bool {
    matches!(format, Format::SENML_CBOR | Format::SENML_JSON)
}

fn instance_of(path: Path) -> Option<Path> {
    Some(Path::instance(path.object_id()?, path.instance_id()?))
}

/// Calls `each` once for every instance that the items write to.
fn try_for_each_instance(
    items: &Items<'_>,
    each: &mut dyn FnMut(Writing<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for (index, item) in items.enumerate() {
        let path = instance_of(item?.path).ok_or(Error::MethodNotAllowed)?;
        let mut earlier = items.take(index).flatten();
        if earlier.any(|item| item.path.starts_with(path)) {
            continue;
        }
        let instance = path.instance_id().unwrap_or(UNASSIGNED);
        each(Writing { path, instance, items: *items, rule: Rule::Write, replace: false })?;
    }
    Ok(())
}

/// What a server may read of some paths, each value once.
struct Selected<'a, 't, 'c, 'o> {
    readable: Readable<'a, 't, 'c, 'o>,
    paths: &'a Paths<'a>,
}

impl Source for Selected<'_, '_, '_, '_> {
    fn visit(&self, _: Path, each: Visitor<'_>) -> Result<(), Error> {
        let mut index = 0_usize;
        self.paths.try_for_each(&mut |path| {
            let (here, mut at, mut is_covered) = (index, 0_usize, false);
            index = index.saturating_add(1);
            self.paths.try_for_each(&mut |other| {
                is_covered |= path.starts_with(other) && (path != other || at < here);
                at = at.saturating_add(1);
                Ok(())
            })?;
            if is_covered { Ok(()) } else { self.readable.visit(path, each) }
        })
    }
}
