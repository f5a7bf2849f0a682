//! Notification attributes and the decision when to notify (LwM2M Core 1.2.1 §5.1.2, §6.4.1).
//!
//! Invariant: the decision is a pure function of the attributes, the time and what happened since the last notification.

use core::cmp::Ordering;

use lwm2m_coap::{Full, Instant, Sink};

use crate::decimal::{emit_float, emit_unsigned, parse_float, parse_unsigned};
use crate::float::{compare, distance};
use crate::{Error, Kind, Level};

/// Notification attributes: attached to one level of a path, or merged over all of them.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Attributes {
    /// Minimum period in seconds: no notification sooner after the last.
    pub pmin: Option<u32>,
    /// Maximum period in seconds: a notification at the latest then; 0 switches it off.
    pub pmax: Option<u32>,
    /// Notify when the value rises above this.
    pub gt: Option<f64>,
    /// Notify when the value falls below this.
    pub lt: Option<f64>,
    /// Notify when the value differs by at least this from the last notified.
    pub st: Option<f64>,
    /// Minimum evaluation period in seconds: the value is looked at no sooner after the last look (1.1).
    pub epmin: Option<u32>,
    /// Maximum evaluation period in seconds: the value is looked at at the latest then (1.1).
    pub epmax: Option<u32>,
}

/// What happened on an observed path since its last notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// When the last notification, or the answer to the Observe, was sent.
    pub notified: Instant,
    /// When the value was last compared with the thresholds.
    pub evaluated: Instant,
    /// The value changed since it was last evaluated.
    pub changed: bool,
    /// An evaluation since the last notification found that one is due.
    pub due: bool,
}

/// What is known of an observed number.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Samples {
    /// As last notified.
    pub notified: f64,
    /// On which sides of the thresholds it was when it was last evaluated ([`Attributes::sides`]).
    pub sides: Sides,
    /// As it is now.
    pub current: f64,
}

/// On which sides of the thresholds a number lies: above `gt`, below `lt`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sides(u8);

/// What to do about an observed path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Send a notification now. Then `notified` and `evaluated` are now, nothing is changed or due.
    Notify,
    /// Compare the value with the thresholds ([`Attributes::is_met`]). Then `evaluated` is now, `changed` is false, `due`
    /// tells the result; and decide again.
    Evaluate,
    /// Decide again at that instant, or when the value changes.
    Wait(Instant),
    /// Decide again when the value changes.
    Idle,
}

impl Attributes {
    /// Returns these attributes, completed by those of the level above (or by defaults).
    #[must_use]
    pub fn or(&self, above: &Self) -> Self {
        Self {
            pmin: self.pmin.or(above.pmin),
            pmax: self.pmax.or(above.pmax),
            gt: self.gt.or(above.gt),
            lt: self.lt.or(above.lt),
            st: self.st.or(above.st),
            epmin: self.epmin.or(above.epmin),
            epmax: self.epmax.or(above.epmax),
        }
    }

    /// Tells whether none is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Tells whether a change counts only when it passes a threshold or a step.
    pub fn has_thresholds(&self) -> bool {
        self.gt.is_some() || self.lt.is_some() || self.st.is_some()
    }

    /// Checks what must hold between the attributes: `lt` < `gt`, `lt` + 2 `st` < `gt`, `epmin` < `epmax`, a positive step.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when it does not.
    pub fn check(&self) -> Result<(), Error> {
        let step = self.st.unwrap_or(0.0);
        let ordered = match (self.lt, self.gt) {
            (Some(lt), Some(gt)) => {
                is(lt, Ordering::is_lt, gt) && distance(gt, lt, step, 1).is_some_and(Ordering::is_gt)
            }
            _ => true,
        };
        let periods = match (self.epmin, self.epmax) {
            (Some(least), Some(greatest)) => least < greatest,
            _ => true,
        };
        if ordered && periods && is(step, Ordering::is_ge, 0.0) { Ok(()) } else { Err(Error::BadRequest) }
    }

    /// Checks whether the attributes may be attached there: thresholds want a numeric resource.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when they may not.
    pub fn check_place(&self, level: Level, kind: Option<Kind>) -> Result<(), Error> {
        let numeric = level >= Level::Resource && kind.is_some_and(Kind::is_numeric);
        if self.has_thresholds() && !numeric { Err(Error::BadRequest) } else { Ok(()) }
    }

    /// Returns on which sides of the thresholds a number lies.
    pub fn sides(&self, number: f64) -> Sides {
        let is_above = self.gt.is_some_and(|gt| is(number, Ordering::is_gt, gt));
        let is_below = self.lt.is_some_and(|lt| is(number, Ordering::is_lt, lt));
        Sides(u8::from(is_above) | u8::from(is_below) << 1)
    }

    /// Tells whether a number changed so that it is to be notified. Thresholds count in one direction: `gt` upwards, `lt`
    /// downwards.
    pub fn is_met(&self, samples: Samples) -> bool {
        let Samples { notified, sides, current } = samples;
        if !self.has_thresholds() {
            return !is(current, Ordering::is_eq, notified);
        }
        self.sides(current).0 & !sides.0 != 0
            || self.st.is_some_and(|st| distance(current, notified, st, 0).is_some_and(Ordering::is_ge))
    }

    /// Decides what to do now. A spurious call is harmless.
    pub fn decide(&self, now: Instant, progress: &Progress) -> Decision {
        let pmin = self.pmin.unwrap_or(0);
        // LwM2M Core 1.2.1 §5.1.2: 0 switches pmax off, and so does a pmin above it.
        let latest = self
            .pmax
            .filter(|pmax| *pmax > 0 && *pmax >= pmin)
            .map(|pmax| progress.notified.after_secs(pmax));
        if latest.is_some_and(|latest| now >= latest) {
            return Decision::Notify;
        }
        let (next, then) = if progress.due {
            (Some(progress.notified.after_secs(pmin)), Decision::Notify)
        } else {
            let changed = progress.changed.then(|| progress.evaluated.after_secs(self.epmin.unwrap_or(0)));
            let regular =
                self.epmax.filter(|epmax| *epmax > 0).map(|epmax| progress.evaluated.after_secs(epmax));
            (earlier(changed, regular), Decision::Evaluate)
        };
        if next.is_some_and(|next| now >= next) {
            return then;
        }
        earlier(next, latest).map_or(Decision::Idle, Decision::Wait)
    }

    /// Writes the attributes as link parameters: `;pmin=10;gt=42.2`.
    ///
    /// # Errors
    /// The sink is full.
    pub fn emit_link(&self, sink: &mut dyn Sink) -> Result<(), Full> {
        self.try_for_each(&mut |name, number| {
            sink.write(b";")?;
            sink.write(name.as_bytes())?;
            sink.write(b"=")?;
            number.emit(sink)
        })
    }

    /// Calls `each` for every attribute that is set, in a fixed order.
    fn try_for_each(
        &self,
        each: &mut dyn FnMut(&'static str, Number) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let Self { pmin, pmax, gt, lt, st, epmin, epmax } = *self;
        let numbers = [
            pmin.map(Number::Seconds),
            pmax.map(Number::Seconds),
            gt.map(Number::Threshold),
            lt.map(Number::Threshold),
            st.map(Number::Threshold),
            epmin.map(Number::Seconds),
            epmax.map(Number::Seconds),
        ];
        NAMES.iter().zip(numbers).try_for_each(|(name, number)| match number {
            Some(number) => each(name, number),
            None => Ok(()),
        })
    }
}

/// In the order of the fields, which is also that of the bits in `AttributesChange::unset`.
const NAMES: [&str; 7] = ["pmin", "pmax", "gt", "lt", "st", "epmin", "epmax"];

#[derive(Clone, Copy)]
enum Number {
    Seconds(u32),
    Threshold(f64),
}

impl Number {
    fn emit(self, sink: &mut dyn Sink) -> Result<(), Full> {
        match self {
            Self::Seconds(seconds) => emit_unsigned(u64::from(seconds), sink),
            Self::Threshold(threshold) => emit_float(threshold, sink),
        }
    }
}

/// Whether two numbers compare that way; never when one of them is not a number.
fn is(one: f64, way: fn(Ordering) -> bool, other: f64) -> bool {
    compare(one, other).is_some_and(way)
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

/// What a Write-Attributes does: attributes that are set, attributes that are unset; the others stay.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct AttributesChange {
    set: Attributes,
    /// Bits in the order of [`NAMES`].
    unset: u8,
}

impl AttributesChange {
    /// Takes one query parameter: `pmin=10` sets, `pmin` unsets.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for an unknown attribute, a bad number, or an attribute named twice.
    pub fn query(&mut self, parameter: &[u8]) -> Result<(), Error> {
        let mut parts = parameter.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default();
        let value = parts.next();
        let index = NAMES.iter().position(|known| known.as_bytes() == name).ok_or(Error::BadRequest)?;
        let bit = 1_u8 << index;
        if self.unset & bit != 0 || self.is_set(index) {
            return Err(Error::BadRequest);
        }
        let Some(value) = value else {
            self.unset |= bit;
            return Ok(());
        };
        if let Some(place) = seconds(&mut self.set, index) {
            let number = parse_unsigned(value).and_then(|seconds| u32::try_from(seconds).ok());
            *place = Some(number.ok_or(Error::BadRequest)?);
        } else if let Some(place) = threshold(&mut self.set, index) {
            *place = Some(parse_float(value).ok_or(Error::BadRequest)?);
        }
        Ok(())
    }

    /// Sets every attribute that `attributes` has.
    pub fn setting(attributes: Attributes) -> Self {
        Self { set: attributes, unset: 0 }
    }

    /// Returns the attributes that are set.
    pub fn set(&self) -> &Attributes {
        &self.set
    }

    /// Tells whether nothing is set or unset.
    pub fn is_empty(&self) -> bool {
        self.unset == 0 && self.set.is_empty()
    }

    /// Applies the change to the attributes of a level.
    #[must_use]
    pub fn apply(&self, attributes: &Attributes) -> Attributes {
        let mut kept = *attributes;
        for index in (0..NAMES.len()).filter(|index| self.unset & 1_u8 << index != 0) {
            if let Some(place) = seconds(&mut kept, index) {
                *place = None;
            }
            if let Some(place) = threshold(&mut kept, index) {
                *place = None;
            }
        }
        self.set.or(&kept)
    }

    /// Calls `each` with every query parameter, of at most 40 bytes.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn try_for_each_query(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), Full>) -> Result<(), Full> {
        self.set.try_for_each(&mut |name, number| {
            let mut text = heapless::Vec::<u8, 40>::new();
            let sink: &mut dyn Sink = &mut text;
            sink.write(name.as_bytes())?;
            sink.write(b"=")?;
            number.emit(sink)?;
            each(&text)
        })?;
        let unset = NAMES.iter().enumerate().filter(|(index, _)| self.unset & 1_u8 << index != 0);
        unset.map(|(_, name)| name).try_for_each(|name| each(name.as_bytes()))
    }

    fn is_set(&mut self, index: usize) -> bool {
        seconds(&mut self.set, index).is_some_and(|place| place.is_some())
            || threshold(&mut self.set, index).is_some_and(|place| place.is_some())
    }
}

fn seconds(attributes: &mut Attributes, index: usize) -> Option<&mut Option<u32>> {
    match index {
        0 => Some(&mut attributes.pmin),
        1 => Some(&mut attributes.pmax),
        5 => Some(&mut attributes.epmin),
        6 => Some(&mut attributes.epmax),
        _ => None,
    }
}

fn threshold(attributes: &mut Attributes, index: usize) -> Option<&mut Option<f64>> {
    match index {
        2 => Some(&mut attributes.gt),
        3 => Some(&mut attributes.lt),
        4 => Some(&mut attributes.st),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "test")]
    extern crate std;

    use proptest::prelude::*;
    use std::string::String;

    use super::*;

    fn change(queries: &[&str]) -> Result<AttributesChange, Error> {
        let mut change = AttributesChange::default();
        queries.iter().try_for_each(|query| change.query(query.as_bytes()))?;
        Ok(change)
    }

    fn second(seconds: u64) -> Instant {
        Instant::from_millis(seconds.saturating_mul(1000))
    }

    #[test]
    fn a_query_sets_and_unsets() {
        let before = Attributes { pmin: Some(5), gt: Some(1.0), ..Attributes::default() };
        let change = change(&["pmax=60", "gt", "lt=-42.5", "pmin=7"]).unwrap();
        let after = change.apply(&before);
        assert_eq!(
            after,
            Attributes { pmin: Some(7), pmax: Some(60), lt: Some(-42.5), ..Attributes::default() }
        );
    }

    #[test]
    fn a_query_that_is_no_attribute_is_refused() {
        for query in [
            "",
            "=",
            "pmin=",
            "pmin=-1",
            "pmin=1.5",
            "pmin=4294967296",
            "gt=",
            "gt=x",
            "ver=1.0",
            "pmin =1",
            "depth=1",
        ] {
            assert_eq!(change(&[query]), Err(Error::BadRequest), "{query}");
        }
        assert_eq!(change(&["pmin=1", "pmin=2"]), Err(Error::BadRequest));
        assert_eq!(change(&["pmin=1", "pmin"]), Err(Error::BadRequest));
        assert_eq!(change(&["pmin", "pmin=1"]), Err(Error::BadRequest));
    }

    #[test]
    fn attributes_that_contradict_each_other_are_refused() {
        let check = |queries: &[&str]| change(queries).unwrap().set().check();
        assert_eq!(check(&["gt=45", "st=10"]), Ok(()));
        assert_eq!(check(&["gt=20", "lt=85"]), Err(Error::BadRequest));
        assert_eq!(check(&["lt=20", "gt=30", "st=10"]), Err(Error::BadRequest));
        assert_eq!(check(&["lt=20", "gt=40.5", "st=10"]), Ok(()));
        assert_eq!(check(&["epmin=10", "epmax=10"]), Err(Error::BadRequest));
        assert_eq!(check(&["pmin=10", "pmax=5"]), Ok(()));
        assert_eq!(check(&["st=-1"]), Err(Error::BadRequest));
    }

    #[test]
    fn thresholds_want_a_number() {
        let attributes = Attributes { gt: Some(1.0), ..Attributes::default() };
        assert_eq!(attributes.check_place(Level::Instance, None), Err(Error::BadRequest));
        assert_eq!(attributes.check_place(Level::Resource, Some(Kind::String)), Err(Error::BadRequest));
        assert_eq!(attributes.check_place(Level::Resource, Some(Kind::Integer)), Ok(()));
        assert_eq!(Attributes::default().check_place(Level::Object, None), Ok(()));
    }

    #[test]
    fn attributes_are_written_as_link_parameters() {
        let mut text = heapless::Vec::<u8, 100>::new();
        let attributes = change(&["lt=42.2", "gt=50", "pmax=60", "pmin=10"]).unwrap();
        attributes.set().emit_link(&mut text).unwrap();
        assert_eq!(String::from_utf8(text.to_vec()).unwrap(), ";pmin=10;pmax=60;gt=50;lt=42.2");
    }

    #[test]
    fn a_change_within_pmin_is_notified_when_pmin_ends() {
        let attributes = Attributes { pmin: Some(10), pmax: Some(60), ..Attributes::default() };
        let mut progress =
            Progress { notified: second(100), evaluated: second(100), changed: true, due: false };
        assert_eq!(attributes.decide(second(101), &progress), Decision::Evaluate);
        progress = Progress { evaluated: second(101), changed: false, due: true, ..progress };
        assert_eq!(attributes.decide(second(101), &progress), Decision::Wait(second(110)));
        assert_eq!(attributes.decide(second(110), &progress), Decision::Notify);
    }

    #[test]
    fn pmax_notifies_without_a_change_unless_off_or_below_pmin() {
        let progress = Progress { notified: second(100), evaluated: second(100), changed: false, due: false };
        let with = |pmin, pmax| Attributes { pmin, pmax, ..Attributes::default() };
        assert_eq!(with(None, Some(60)).decide(second(159), &progress), Decision::Wait(second(160)));
        assert_eq!(with(None, Some(60)).decide(second(160), &progress), Decision::Notify);
        assert_eq!(with(Some(60), Some(60)).decide(second(160), &progress), Decision::Notify);
        assert_eq!(with(Some(61), Some(60)).decide(second(1000), &progress), Decision::Idle);
        assert_eq!(with(None, Some(0)).decide(second(1000), &progress), Decision::Idle);
    }

    #[test]
    fn evaluation_periods_bound_how_often_a_value_is_looked_at() {
        let attributes = Attributes { epmin: Some(5), epmax: Some(20), ..Attributes::default() };
        let still = Progress { notified: second(100), evaluated: second(100), changed: false, due: false };
        let changed = Progress { changed: true, ..still };
        assert_eq!(attributes.decide(second(101), &changed), Decision::Wait(second(105)));
        assert_eq!(attributes.decide(second(105), &changed), Decision::Evaluate);
        assert_eq!(attributes.decide(second(105), &still), Decision::Wait(second(120)));
        assert_eq!(attributes.decide(second(120), &still), Decision::Evaluate);
    }

    #[test]
    fn a_value_that_came_back_between_evaluations_crosses_again() {
        let attributes = Attributes { gt: Some(45.0), ..Attributes::default() };
        let samples =
            |previous, current| Samples { notified: 50.0, sides: attributes.sides(previous), current };
        assert!(attributes.is_met(samples(40.0, 50.0)));
        assert!(!attributes.is_met(samples(50.0, 51.0)));
    }

    proptest! {
        #[test]
        fn a_change_survives_its_query(pmin in any::<Option<u32>>(), gt in any::<Option<f32>>(), epmax in any::<Option<u32>>(), unset in any::<bool>()) {
            let gt = gt.filter(|gt| gt.is_finite()).map(f64::from);
            let mut before = AttributesChange::setting(Attributes { pmin, gt, epmax, ..Attributes::default() });
            if unset {
                before.query(b"st").unwrap();
            }
            let mut after = AttributesChange::default();
            before.try_for_each_query(&mut |query| { after.query(query).unwrap(); Ok(()) }).unwrap();
            prop_assert_eq!(before, after);
        }

        #[test]
        fn a_decision_to_wait_is_in_the_future(pmin in any::<Option<u8>>(), pmax in any::<Option<u8>>(), epmin in any::<Option<u8>>(),
                epmax in any::<Option<u8>>(), changed: bool, due: bool, now in 0..600_u64) {
            let widen = |period: Option<u8>| period.map(u32::from);
            let attributes = Attributes { pmin: widen(pmin), pmax: widen(pmax), epmin: widen(epmin), epmax: widen(epmax), ..Attributes::default() };
            let progress = Progress { notified: second(100), evaluated: second(200), changed, due };
            if let Decision::Wait(until) = attributes.decide(second(now), &progress) {
                prop_assert!(until > second(now));
            }
        }
    }
}
