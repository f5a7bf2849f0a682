//! Listing: Discover, Bootstrap-Discover, and the object list of a registration (LwM2M Core 1.2.1 §6.1.7.5, §6.2.1,
//! §6.3.2).
//!
//! Invariant: nothing of the security objects is listed outside of the bootstrap interface.

use lwm2m_coap::link::LinkWriter;
use lwm2m_coap::{Full, Sink};

use super::{Context, Tree, instances, is_hidden, resource_instances};
use crate::registration::{Root, announced_version};
use crate::{
    Attributes, Error, Format, Level, Object, ObjectDef, Outcome, Path, ResourceDef, Target, Value, Version,
};

impl Tree<'_, '_, '_> {
    pub(super) fn discover(
        &self,
        target: &Target<'_>,
        depth: Option<u8>,
        context: &Context<'_>,
        body: &mut dyn Sink,
    ) -> Result<Outcome, Error> {
        let path = target.path;
        let place = self.locate(path)?;
        if path.level() > Level::Resource {
            return Err(Error::MethodNotAllowed);
        }
        // LwM2M Core 1.2.1 §6.3.2: two levels below an object, else one.
        let depth = depth.unwrap_or(if path.level() == Level::Object { 2 } else { 1 });
        let mut listing = Listing { object: place.object, context, sink: body, is_first: true };
        match (path.instance_id(), place.resource) {
            (Some(instance), Some(resource)) => listing.resource(instance, resource, depth)?,
            (Some(instance), None) => listing.instance(instance, depth)?,
            (None, _) => {
                listing.link(path, None)?;
                if depth > 0 {
                    for instance in instances(place.object) {
                        listing.instance(instance, depth.saturating_sub(1))?;
                    }
                }
            }
        }
        Ok(Outcome::Content(Format::LINK))
    }

    pub(super) fn bootstrap_discover(
        &self,
        path: Path,
        context: &Context<'_>,
        body: &mut dyn Sink,
    ) -> Result<Outcome, Error> {
        if path.level() > Level::Object {
            return Err(Error::BadRequest);
        }
        if let Some(id) = path.object_id() {
            self.object(id).ok_or(Error::NotFound)?;
        }
        let [major, minor] =
            [context.version.major, context.version.minor].map(|number| b'0'.saturating_add(number % 10));
        let version = [major, b'.', minor];
        LinkWriter::new(&mut *body)
            .path("", &[])?
            .attribute("lwm2m", core::str::from_utf8(&version).unwrap_or_default())?;
        for object in self.objects() {
            let definition = object.definition();
            if path.object_id().is_some_and(|id| id != definition.id) {
                continue;
            }
            if is_listed_apart(object, context.version) {
                body.write(b",")?;
                let mut links = LinkWriter::new(&mut *body);
                object_link(definition, context.version, "", &mut links)?;
            }
            for instance in instances(object) {
                body.write(b",")?;
                let mut links = LinkWriter::new(&mut *body);
                links.path("", &[definition.id, instance])?;
                let (server, uri) = self.account(definition.id, instance);
                if let Some(server) = server {
                    links.integer("ssid", server)?;
                }
                // No URI has a quote in it; and what has one does not get out of its quotes.
                if let Some(uri) = uri.filter(|uri| !uri.as_bytes().contains(&b'"')) {
                    body.write(b";uri=\"")?;
                    body.write(uri.as_bytes())?;
                    body.write(b"\"")?;
                }
            }
        }
        Ok(Outcome::Content(Format::LINK))
    }

    /// Writes the object list of a registration: all objects and instances that servers may know of.
    ///
    /// # Errors
    /// The sink is full.
    pub fn emit_links(&self, version: Version, root: &Root<'_>, sink: &mut dyn Sink) -> Result<(), Full> {
        let mut links = LinkWriter::new(sink);
        root.emit(&mut links)?;
        let prefix = root.alternate;
        // LwM2M Core 1.2.1 §6.2.1: no credentials; an MQTT server's are not for others either.
        for object in
            self.objects().filter(|object| !is_hidden(object.definition().id) && object.definition().id != 24)
        {
            let definition = object.definition();
            if is_listed_apart(object, version) {
                object_link(definition, version, prefix, &mut links)?;
            }
            for instance in instances(object) {
                links.path(prefix, &[definition.id, instance])?;
            }
        }
        Ok(())
    }

    /// The server that an instance belongs to, and for security instances where it is. The account of a
    /// Bootstrap-Server has neither.
    fn account(&self, object: u16, instance: u16) -> (Option<u32>, Option<&str>) {
        let number = |path| match self.value(path) {
            Some(Value::Integer(number)) => u32::try_from(number).ok(),
            _ => None,
        };
        let server = |security| match self.value(Path::resource(0, security, 1)) {
            Some(Value::Boolean(false)) => number(Path::resource(0, security, 10)),
            _ => None,
        };
        match object {
            0 => {
                let uri = match self.value(Path::resource(0, instance, 0)) {
                    Some(Value::String(uri)) => Some(uri),
                    _ => None,
                };
                let server = server(instance);
                (server, server.and(uri))
            }
            1 => (number(Path::resource(1, instance, 0)), None),
            21 => {
                let links = |security: u16| match self.value(Path::resource(0, security, 17)) {
                    Some(Value::ObjectLink(link)) => link.object == 21 && link.instance == instance,
                    _ => false,
                };
                let security = self.object(0).and_then(|object| instances(object).find(|id| links(*id)));
                (security.and_then(server), None)
            }
            _ => (None, None),
        }
    }
}

/// Tells whether an object is listed apart from its instances: for its version, or because it has none.
fn is_listed_apart(object: &dyn Object, version: Version) -> bool {
    announced_version(version, object.definition()).is_some() || object.next_instance(None).is_none()
}

/// Writes a link to an object, with its version where that must be said.
fn object_link(
    definition: &ObjectDef,
    version: Version,
    prefix: &str,
    links: &mut LinkWriter<'_, dyn Sink + '_>,
) -> Result<(), Full> {
    links.path(prefix, &[definition.id])?;
    match announced_version(version, definition) {
        Some(announced) => crate::registration::emit_version(announced, links),
        None => Ok(()),
    }
}

/// A Discover that is being answered. Its links have no alternate path before them: nothing says that they have, those of devices
/// behind a gateway have no prefix either, and Leshan's server refuses a list in which they have one.
struct Listing<'a> {
    object: &'a dyn Object,
    context: &'a Context<'a>,
    sink: &'a mut dyn Sink,
    is_first: bool,
}

impl Listing<'_> {
    fn instance(&mut self, instance: u16, depth: u8) -> Result<(), Full> {
        let definition = self.object.definition();
        self.link(Path::instance(definition.id, instance), None)?;
        if depth > 0 {
            for resource in definition.resources {
                if self.object.has(instance, resource.id) {
                    self.resource(instance, resource, depth.saturating_sub(1))?;
                }
            }
        }
        Ok(())
    }

    fn resource(&mut self, instance: u16, resource: &ResourceDef, depth: u8) -> Result<(), Full> {
        let path = Path::resource(self.object.definition().id, instance, resource.id);
        if !resource.multiple {
            return self.link(path, None);
        }
        let object = self.object;
        let several = || resource_instances(object, instance, resource.id);
        self.link(path, Some(several().count()))?;
        if depth > 0 {
            for id in several() {
                self.link(path.child(id).unwrap_or(path), None)?;
            }
        }
        Ok(())
    }

    /// Writes a link with its attributes: for the target those that hold there, for others those attached there.
    fn link(&mut self, path: Path, dim: Option<usize>) -> Result<(), Full> {
        let is_target = core::mem::take(&mut self.is_first);
        if !is_target {
            self.sink.write(b",")?;
        }
        let mut links = LinkWriter::new(&mut *self.sink);
        if path.level() == Level::Object {
            object_link(self.object.definition(), self.context.version, "", &mut links)?;
        } else {
            links.path("", path.ids())?;
        }
        if let Some(dim) = dim {
            links.integer("dim", u32::try_from(dim).unwrap_or(u32::MAX))?;
        }
        let mut attributes = (self.context.attributes)(path);
        let mut above = path.parent().filter(|_| is_target);
        while let Some(level) = above.filter(|level| *level != Path::ROOT) {
            attributes = attributes.or(&(self.context.attributes)(level));
            above = level.parent();
        }
        Attributes::emit_link(&attributes, self.sink)
    }
}
