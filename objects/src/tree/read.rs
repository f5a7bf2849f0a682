//! Reading: what a server may see of the tree, as the source of a payload (LwM2M Core 1.2.1 §6.3.1).
//!
//! Invariant: only readable resources of instances that the server may read are visited.

use lwm2m_coap::Sink;

use super::{Access, Context, Right, Tree, instances, is_hidden, resource_instances};
use crate::format::{Chunks, Leaf, Source, Visitor, convert, encode};
use crate::{At, Error, Format, Kind, Level, Object, Outcome, Path, ResourceDef, Target};

impl Tree<'_, '_, '_> {
    pub(super) fn read(
        &self,
        target: &Target<'_>,
        accept: Option<Format>,
        context: &Context<'_>,
        body: &mut dyn Sink,
    ) -> Result<Outcome, Error> {
        let path = target.path;
        let place = self.locate(path)?;
        if place.instance.is_some() {
            self.check_access(&place, Right::Read, context)?;
        }
        if place.resource.is_some_and(|definition| !definition.operations.is_readable()) {
            return Err(Error::MethodNotAllowed);
        }
        let readable = Readable { tree: self, access: context.access, dated_until: None };
        if path.level() >= Level::Resource {
            let mut found = false;
            readable.visit(path, &mut |_, _| {
                found = true;
                Ok(())
            })?;
            if !found {
                return Err(Error::NotFound);
            }
        }
        let format = accept.unwrap_or(context.format);
        encode(format, target, &readable, body)?;
        Ok(Outcome::Content(format))
    }
}

/// What a server may read.
pub(super) struct Readable<'a, 't, 'c, 'o> {
    pub(super) tree: &'a Tree<'t, 'c, 'o>,
    pub(super) access: &'a dyn Access,
    /// Of what has samples up to this time, those instead of the value as it is.
    pub(super) dated_until: Option<i64>,
}

impl Source for Readable<'_, '_, '_, '_> {
    fn visit(&self, path: Path, each: Visitor<'_>) -> Result<(), Error> {
        let wanted = |id: u16, level: Option<u16>| level.is_none_or(|level| level == id);
        for object in self.tree.objects() {
            let definition = object.definition();
            let id = definition.id;
            if !wanted(id, path.object_id()) || is_hidden(id) {
                continue;
            }
            for instance in instances(object).filter(|instance| wanted(*instance, path.instance_id())) {
                if !self.access.allows(self.tree, id, Some(instance), Right::Read) {
                    continue;
                }
                let readable = definition.resources.iter().filter(|resource| {
                    wanted(resource.id, path.resource_id())
                        && resource.operations.is_readable()
                        && object.has(instance, resource.id)
                });
                for resource in readable {
                    visit_resource(
                        object,
                        instance,
                        resource,
                        path.resource_instance_id(),
                        self.dated_until,
                        each,
                    )?;
                }
            }
            // Of two objects with the same identifier the first counts.
            if path.object_id().is_some() {
                break;
            }
        }
        Ok(())
    }
}

fn visit_resource(
    object: &dyn Object,
    instance: u16,
    definition: &ResourceDef,
    only: Option<u16>,
    dated_until: Option<i64>,
    each: Visitor<'_>,
) -> Result<(), Error> {
    let resource = definition.id;
    let path = Path::resource(object.definition().id, instance, resource);
    let mut visit = |path, at| match dated_until {
        Some(until) if visit_samples(object, path, at, definition.kind, until, each)? => Ok(()),
        _ => visit_value(object, path, at, definition.kind, each),
    };
    if !definition.multiple {
        return visit(path, At { instance, resource, resource_instance: 0 });
    }
    let mut empty = true;
    for resource_instance in resource_instances(object, instance, resource) {
        empty = false;
        if only.is_none_or(|only| only == resource_instance) {
            let path = path.child(resource_instance).unwrap_or(path);
            visit(path, At { instance, resource, resource_instance })?;
        }
    }
    if empty { each(path, Leaf::Empty) } else { Ok(()) }
}

/// Visits what an object kept of a resource up to a time; whether there was something.
fn visit_samples(
    object: &dyn Object,
    path: Path,
    at: At,
    kind: Kind,
    until: i64,
    each: Visitor<'_>,
) -> Result<bool, Error> {
    let mut index = 0_usize;
    while let Some((time, value)) = object.dated(at, index).filter(|(time, _)| *time <= until) {
        each(path, Leaf::Dated(time, convert(value, kind).ok_or(Error::Internal)?))?;
        index = index.saturating_add(1);
    }
    Ok(index > 0)
}

fn visit_value(object: &dyn Object, path: Path, at: At, kind: Kind, each: Visitor<'_>) -> Result<(), Error> {
    if kind == Kind::Opaque
        && let Some(length) = object.opaque_length(at)
    {
        return each(path, Leaf::Chunks(Chunks { object, at, length }));
    }
    match object.read(at) {
        // An object that gives another type than it defines would be misread.
        Some(value) => each(path, Leaf::Value(convert(value, kind).ok_or(Error::Internal)?)),
        None => Ok(()),
    }
}
