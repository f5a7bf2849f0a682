//! The bootstrap interface, as the client answers it (LwM2M Core 1.2.1 §6.1).
//!
//! Invariant: the account of the Bootstrap-Server and `/3/0` survive every Bootstrap-Delete.

use lwm2m_coap::Sink;

use super::read::Readable;
use super::write::{DEVICE, Rule, Writing, check_format};
use super::{Context, Tree, Unrestricted, has_instance, instances};
use crate::format::{Items, encode};
use crate::{Content, Error, Format, Level, Object, Outcome, Path, UNASSIGNED, Value};

impl Tree<'_, '_, '_> {
    /// Bootstrap-Write ignores rights and what exists; of the codes of §6.1.7.3 it answers 4.00 and 4.15.
    #[inline(never)]
    pub(super) fn bootstrap_write(&mut self, path: Path, content: Content<'_>) -> Result<Outcome, Error> {
        let id = path.object_id().ok_or(Error::BadRequest)?;
        let object = self.object(id).ok_or(Error::BadRequest)?;
        let definition = object.definition();
        if let Some(resource) = path.resource_id() {
            let resource = definition.resource(resource).ok_or(Error::BadRequest)?;
            if path.level() == Level::ResourceInstance && !resource.multiple {
                return Err(Error::BadRequest);
            }
            check_format(resource, path, content.format)?;
        }
        let target = path.into();
        let items = Items::new(&target, content)?;
        let writing = |instance: u16| {
            let path = if path.level() == Level::Object { Path::instance(id, instance) } else { path };
            let replace = path.level() < Level::ResourceInstance;
            Writing { path, instance, items, rule: Rule::Bootstrap, replace }
        };

        let mut next = next_instance(path, &items, None)?;
        while let Some(instance) = next {
            if instance == UNASSIGNED || instance != 0 && !definition.multiple {
                return Err(Error::BadRequest);
            }
            let _ = writing(instance).validate(self, object).map_err(bad_request)?;
            next = next_instance(path, &items, Some(instance))?;
        }

        let object = self.object_mut(id).ok_or(Error::BadRequest)?;
        next = next_instance(path, &items, None)?;
        while let Some(instance) = next {
            let created = !has_instance(object, instance);
            if created {
                object.create(instance).map_err(bad_request)?;
            }
            if let Err(error) = writing(instance).apply(object) {
                if created {
                    let _ = object.delete(instance);
                }
                return Err(bad_request(error));
            }
            next = next_instance(path, &items, Some(instance))?;
        }
        Ok(Outcome::Changed)
    }

    pub(super) fn bootstrap_read(
        &self,
        path: Path,
        accept: Option<Format>,
        context: &Context<'_>,
        body: &mut dyn Sink,
    ) -> Result<Outcome, Error> {
        // LwM2M Core 1.2.1 §6.1.7.4: objects 1 and 2, as a whole or an instance.
        let (1 | 2, Level::Object | Level::Instance) = (path.object_id().unwrap_or(UNASSIGNED), path.level())
        else {
            return Err(Error::MethodNotAllowed);
        };
        self.locate(path)?;
        let format = accept.unwrap_or(context.format);
        encode(
            format,
            &path.into(),
            &Readable { tree: self, access: &Unrestricted, dated_until: None },
            body,
        )?;
        Ok(Outcome::Content(format))
    }

    pub(super) fn bootstrap_delete(&mut self, path: Path) -> Result<Outcome, Error> {
        match *path.ids() {
            [] => {
                let mut index = 0_usize;
                while let Some(object) = self.id_at(index) {
                    self.clear(object);
                    index = index.saturating_add(1);
                }
            }
            [object] => {
                self.object(object).ok_or(Error::BadRequest)?;
                self.clear(object);
            }
            [object, instance] => {
                if self.is_protected(object, instance) {
                    return Err(Error::BadRequest);
                }
                let object = self.object_mut(object).ok_or(Error::BadRequest)?;
                if !has_instance(object, instance) {
                    return Err(Error::BadRequest);
                }
                object.delete(instance).map_err(bad_request)?;
            }
            _ => return Err(Error::BadRequest),
        }
        Ok(Outcome::Deleted)
    }

    pub(super) fn id_at(&self, index: usize) -> Option<u16> {
        let object = self.objects().nth(index)?;
        Some(object.definition().id)
    }

    /// Deletes all instances that can be deleted; what is built in stays.
    fn clear(&mut self, object: u16) {
        let mut after = None;
        while let Some(instance) = self.object(object).and_then(|object| object.next_instance(after)) {
            if !self.is_protected(object, instance)
                && let Some(object) = self.object_mut(object)
            {
                let _ = object.delete(instance);
            }
            after = Some(instance);
        }
    }

    /// LwM2M Core 1.2.1 §6.1.7.6: the Bootstrap-Server's account is its security instance and what that links to.
    fn is_protected(&self, object: u16, instance: u16) -> bool {
        let account = |id: u16| self.value(Path::resource(0, id, 1)) == Some(Value::Boolean(true));
        let linked = |resource: u16| {
            let security = self.object(0);
            security.is_some_and(|security| {
                instances(security)
                    .filter(|id| account(*id))
                    .any(|id| links_to(security, id, resource, instance))
            })
        };
        match object {
            0 => account(instance),
            21 => linked(17),
            23 => linked(27),
            24 => linked(26),
            _ => Path::instance(object, instance) == DEVICE,
        }
    }
}

/// Tells whether a link of a security instance (single, or one of several) leads to an instance.
fn links_to(security: &dyn Object, id: u16, resource: u16, instance: u16) -> bool {
    super::resource_instances(security, id, resource).any(|resource_instance| {
        let at = crate::At { instance: id, resource, resource_instance };
        matches!(security.read(at), Some(Value::ObjectLink(link)) if link.instance == instance)
    })
}

/// The least instance above `after` that a payload has values of; without one in the payload, that of the path.
fn next_instance(path: Path, items: &Items<'_>, after: Option<u16>) -> Result<Option<u16>, Error> {
    if let Some(instance) = path.instance_id() {
        return Ok(after.is_none().then_some(instance));
    }
    let mut next: Option<u16> = None;
    for item in *items {
        let instance = item?.path.instance_id().ok_or(Error::BadRequest)?;
        if after.is_none_or(|after| instance > after) && next.is_none_or(|next| instance < next) {
            next = Some(instance);
        }
    }
    Ok(next)
}

/// The codes that a Bootstrap-Write or -Delete may be answered with.
fn bad_request(error: Error) -> Error {
    match error {
        Error::UnsupportedFormat | Error::Internal | Error::TooLarge => error,
        _ => Error::BadRequest,
    }
}
