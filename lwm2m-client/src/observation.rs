//! One observation: what is known of the place since it was last notified.
//!
//! LwM2M Core 1.1.1 §5.1.2. Thresholds are those of the resource and of its instances, wherever it is observed: of an array
//! and of what lies above a resource, each number that they count for is compared by itself, and one is enough.
//!
//! Invariant: a change that is compared with nothing counts.

use core::num::NonZeroU8;

use lwm2m_coap::{Delivery, Instant, Token};
use lwm2m_objects::{At, Attributes, Format, Path, Progress, Samples, Sides, Tree, Value};

use crate::account::ShortServerId;
use crate::attached::Attachments;
use crate::session::Observer;

/// A Confirmable notification is sent at least once a day, so that a vanished observer is noticed (RFC 7641 §4.5).
const CONFIRMED_EVERY: Moment = Moment(24 * 3600 * 1000 / 1024);

/// A time in half the memory of an [`Instant`], in units of 1,024 ms.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Moment(u32);

impl Moment {
    /// The last one after 139 years.
    fn of(instant: Instant) -> Self {
        Moment(u32::try_from(instant.as_millis() >> 10).unwrap_or(u32::MAX))
    }
}

/// What changed since the numbers were last looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Nothing,
    /// Numbers that have thresholds.
    Compared,
    /// Something else.
    Other,
}

/// One observation.
pub(crate) struct Observation {
    pub(crate) slot: u8,
    /// Of no other observation that is there.
    pub(crate) id: NonZeroU8,
    pub(crate) server: ShortServerId,
    pub(crate) observer: Observer,
    pub(crate) path: Path,
    pub(crate) format: Format,
    notified_at: Instant,
    evaluated_at: Instant,
    confirmed_at: Moment,
    changed: Changed,
    /// An evaluation since the last notification found that one is due.
    pub(crate) is_due: bool,
    /// The number as last notified, and where it was when last evaluated; not a number for anything else.
    number: f64,
    sides: Sides,
    /// When it began; renewed, it goes on.
    #[cfg(feature = "offline")]
    pub(crate) began_at: Instant,
    /// It is one place of several that are notified together.
    #[cfg(feature = "composite")]
    pub(crate) is_part: bool,
}

impl Observation {
    /// Of a place that is told to the observer now.
    pub(crate) fn new(
        now: Instant,
        slot: u8,
        server: ShortServerId,
        observer: Observer,
        (path, format): (Path, Format),
    ) -> Self {
        Observation {
            slot,
            id: NonZeroU8::MIN,
            server,
            observer,
            path,
            format,
            notified_at: now,
            evaluated_at: now,
            confirmed_at: Moment::of(now),
            changed: Changed::Nothing,
            is_due: false,
            number: f64::NAN,
            sides: Sides::default(),
            #[cfg(feature = "offline")]
            began_at: now,
            #[cfg(feature = "composite")]
            is_part: false,
        }
    }

    /// Whether it has this token of a session.
    pub(crate) fn is(&self, slot: usize, token: Token) -> bool {
        usize::from(self.slot) == slot && self.observer.token == token
    }

    /// The place of a part, or nothing.
    #[cfg(feature = "composite")]
    pub(crate) fn part(&self) -> Option<(usize, Token, Path)> {
        self.is_part.then_some((usize::from(self.slot), self.observer.token, self.path))
    }

    #[cfg(not(feature = "composite"))]
    pub(crate) fn part(&self) -> Option<(usize, Token, Path)> {
        None
    }

    /// What the decision to notify depends on.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            notified: self.notified_at,
            evaluated: self.evaluated_at,
            changed: self.changed != Changed::Nothing,
            due: self.is_due,
        }
    }

    /// Whether the next notification is to be acknowledged.
    pub(crate) fn is_to_confirm(&self, now: Instant) -> bool {
        Moment(Moment::of(now).0.saturating_sub(self.confirmed_at.0)) >= CONFIRMED_EVERY
    }

    /// Something changed here, or below; it is compared with thresholds, or it counts by itself.
    pub(crate) fn note_change(&mut self, is_compared: bool) {
        let is_compared = is_compared && self.object().is_some();
        self.changed = self.changed.max(if is_compared { Changed::Compared } else { Changed::Other });
    }

    /// The object whose numbers are compared.
    // Departure: what is observed from the root is not compared with thresholds, every change of it counts. Numbers are known by
    // their places in one object, which saves a third of what they take.
    fn object(&self) -> Option<u16> {
        self.path.object_id()
    }

    /// It was notified.
    pub(crate) fn notified(&mut self, now: Instant, delivery: Delivery) {
        self.told(now);
        if delivery == Delivery::Confirmable {
            self.confirmed_at = Moment::of(now);
        }
    }

    /// There is nothing to tell any more.
    pub(crate) fn told(&mut self, now: Instant) {
        (self.notified_at, self.evaluated_at) = (now, now);
        (self.changed, self.is_due) = (Changed::Nothing, false);
    }

    /// Notes the numbers as they are: because they are told now, or because they have other thresholds.
    pub(crate) fn note<const T: usize>(
        &mut self,
        is_told: bool,
        attached: &Attachments<T>,
        numbers: &mut Numbers<T>,
        tree: &Tree<'_, '_, '_>,
    ) {
        let current = number(tree.value(self.path));
        // With other thresholds, what changed and was not looked at yet is on no side: rather one notification too many.
        let is_looked_at = self.changed == Changed::Nothing;
        let sides = |attributes: &Attributes, current| match is_looked_at {
            true => attributes.sides(current),
            false => Sides::default(),
        };
        self.sides = sides(&attached.inherited(self.server, self.path), current);
        if is_told {
            self.number = current;
            numbers.forget(|of| of == self.id);
        }
        if !current.is_nan() {
            return;
        }
        self.visit(attached, tree, &mut |at, current, attributes| {
            let sides = sides(attributes, current);
            match numbers.find(self.id, at) {
                Some(number) => number.sides = sides,
                None => numbers.push(Number { notified: current, at, of: self.id, sides }),
            }
        });
    }

    /// Compares the numbers with the thresholds.
    pub(crate) fn evaluate<const T: usize>(
        &mut self,
        now: Instant,
        attached: &Attachments<T>,
        numbers: &mut Numbers<T>,
        tree: &Tree<'_, '_, '_>,
    ) {
        let attributes = attached.inherited(self.server, self.path);
        let (notified, current) = (self.number, number(tree.value(self.path)));
        self.is_due |= match (notified.is_nan(), current.is_nan()) {
            (false, false) => attributes.is_met(Samples { notified, sides: self.sides, current }),
            (true, true) => self.changed == Changed::Other || self.evaluate_each(attached, numbers, tree),
            _ => self.changed != Changed::Nothing,
        };
        self.sides = attributes.sides(current);
        self.evaluated_at = now;
        self.changed = Changed::Nothing;
    }

    /// The same of each number that has thresholds. One that came, went, or found no room when it was told is notified
    /// whenever something changed.
    fn evaluate_each<const T: usize>(
        &self,
        attached: &Attachments<T>,
        numbers: &mut Numbers<T>,
        tree: &Tree<'_, '_, '_>,
    ) -> bool {
        let is_changed = self.changed != Changed::Nothing;
        let mut is_met = false;
        self.visit(attached, tree, &mut |at, current, attributes| match numbers.find(self.id, at) {
            Some(number) => {
                let Number { notified, sides, .. } = *number;
                is_met |= attributes.is_met(Samples { notified, sides, current });
                number.sides = attributes.sides(current);
            }
            None => is_met |= is_changed,
        });
        let object = self.object().and_then(|object| tree.object(object));
        let is_gone = |at| object.is_none_or(|object| object.read(at).is_none());
        is_met
            || (is_changed
                && numbers.0.iter().flatten().any(|number| number.of == self.id && is_gone(number.at)))
    }

    /// Calls `each` with the numbers that have thresholds, and with what counts for them.
    fn visit<const T: usize>(
        &self,
        attached: &Attachments<T>,
        tree: &Tree<'_, '_, '_>,
        each: &mut dyn FnMut(At, f64, &Attributes),
    ) {
        let Some((id, object)) = self.object().and_then(|id| Some((id, tree.object(id)?))) else { return };
        for place in attached.thresholds(self.server, self.path) {
            let &[_, instance, resource, ref only @ ..] = place.ids() else { continue };
            let Some(definition) = object.definition().resource(resource) else { continue };
            let mut next = match (only.first(), definition.multiple) {
                (Some(only), _) => Some(*only),
                (None, false) => Some(0),
                (None, true) => object.next_resource_instance(instance, resource, None),
            };
            while let Some(resource_instance) = next {
                let at = At { instance, resource, resource_instance };
                let current = number(object.read(at));
                if !current.is_nan() {
                    let path = Path::resource_instance(id, instance, resource, resource_instance);
                    let path = if definition.multiple { path } else { place };
                    each(at, current, &attached.inherited(self.server, path));
                }
                let is_last = !only.is_empty() || !definition.multiple;
                next = if is_last {
                    None
                } else {
                    object.next_resource_instance(instance, resource, Some(resource_instance))
                };
            }
        }
    }
}

/// A value as a number, if it is one.
fn number(value: Option<Value<'_>>) -> f64 {
    value.as_ref().and_then(Value::number).unwrap_or(f64::NAN)
}

/// A number below what is observed.
pub(crate) struct Number {
    /// As last notified.
    notified: f64,
    at: At,
    /// The observation; that it is never 0 makes room for the absence of a number.
    of: NonZeroU8,
    /// Where it was when it was last evaluated.
    sides: Sides,
}

/// The numbers that are compared below what is observed, as many as there can be paths with attributes.
pub(crate) struct Numbers<const T: usize>([Option<Number>; T]);

impl<const T: usize> Numbers<T> {
    pub(crate) const fn new() -> Self {
        Numbers([const { None }; T])
    }

    /// Forgets those of observations.
    pub(crate) fn forget(&mut self, is_meant: impl Fn(NonZeroU8) -> bool) {
        for place in &mut self.0 {
            let _ = place.take_if(|number| is_meant(number.of));
        }
    }

    fn find(&mut self, of: NonZeroU8, at: At) -> Option<&mut Number> {
        self.0.iter_mut().flatten().find(|number| number.of == of && number.at == at)
    }

    /// One that there is no room for is not known when it is looked at again, so that every change counts.
    fn push(&mut self, number: Number) {
        if let Some(place) = self.0.iter_mut().find(|place| place.is_none()) {
            *place = Some(number);
        }
    }
}
