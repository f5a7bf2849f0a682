//! Send: values that a device reports by itself (LwM2M Core 1.2.1 §6.4.7).
//!
//! Invariant: a report is told as a whole or not at all.

use lwm2m_coap::{Code, Instant};
use lwm2m_objects::format::Items;
use lwm2m_objects::{Content, Format, Path, Target};

use crate::event::Event;
use crate::operation::{Report, Reported};

use super::Endpoint;
use super::content;
use super::counters::Counters;
use super::request::Context;
use super::slab::Key;

impl Endpoint {
    /// Takes what a registered device reports; the code of the answer.
    pub(crate) fn sent(&mut self, now: Instant, key: Key, content: Content<'_>) -> Code {
        let association = self.associations.get(key);
        let device = association.and_then(|association| self.registry.get(association.registration?));
        let Some(device) = device else { return Code::NOT_FOUND };
        let now = self.wall_clock(now);
        let context = Context { models: &self.config.models, device: Some(device) };
        let values = match content.format {
            Format::SENML_CBOR | Format::SENML_JSON => reported(now, context, content),
            _ => None,
        };
        let Some(values) = values else {
            Counters::add(&mut self.counters.malformed);
            return Code::BAD_REQUEST;
        };
        let listed = device.objects.objects();
        let is_listed = |reported: &Reported| {
            reported.path.object_id().is_some_and(|object| listed.binary_search(&object).is_ok())
        };
        if !values.iter().all(is_listed) {
            return Code::NOT_FOUND;
        }
        let report = Report { format: content.format.0, values };
        let endpoint = device.endpoint.clone();
        Counters::add(&mut self.counters.reports);
        self.events.push_back(Event::Reported { endpoint, report: report.into() });
        Code::CHANGED
    }
}

fn reported(now: u64, context: Context<'_>, content: Content<'_>) -> Option<Vec<Reported>> {
    let prefix = context.device.and_then(|device| device.objects.prefix.as_deref());
    let items = Items::new(&Target { prefix, path: Path::ROOT }, content).ok()?;
    let mut values = Vec::new();
    for item in items {
        let item = item.ok()?;
        let value = content::value(|object, resource| context.kind(object, resource), &item)?;
        values.push(Reported { path: item.path, value, time: content::time(now, &item)? });
    }
    Some(values)
}
