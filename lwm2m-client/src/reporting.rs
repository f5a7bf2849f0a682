//! What servers observe, the attributes they attached, and when a notification is due.
//!
//! LwM2M Core 1.1.1 §5.1.2 and §6.4. Invariant: attributes belong to the server that wrote them; an observation belongs
//! to the session it came by and ends with it.

use core::ops::Range;

use heapless::Vec;
use lwm2m_coap::block::{Head, Serve, ServeError, Szx};
use lwm2m_coap::observe::Sequence;
use lwm2m_coap::{Code, ContentFormat, Delivery, Instant, Rng, SendError, Token, Writer};
#[cfg(feature = "composite")]
use lwm2m_objects::Paths;
use lwm2m_objects::{
    Attributes, AttributesChange, Decision, Error, Format, Object, Operation, Path, Progress, Samples,
    Target, Tree, mapping,
};

use crate::account::ShortServerId;
use crate::client::Client;
use crate::requests::is_to_wait;
use crate::session::{LARGEST, Observer};

/// A Confirmable notification is sent at least every so many seconds, so that a vanished observer is noticed (RFC 7641 §4.5).
const CONFIRMED_EVERY: u32 = 24 * 3600;

/// The largest block of a Confirmable notification, which is kept with its header, token and options.
pub(crate) const LARGEST_KEPT: usize = LARGEST - 48;

/// Seconds between Non-confirmable notifications to one server on average (RFC 7641 §4.5.1), and how many of them may go out
/// together before the others wait for an acknowledgement.
const UNCONFIRMED_EVERY: u32 = 3;
const UNCONFIRMED_AT_ONCE: u32 = 10;

/// The rate of Non-confirmable notifications to one server: when the time that passed makes up for all that were sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    caught_up_at: Instant,
}

impl Pace {
    /// Whether one more is within the rate.
    fn has_room(self, now: Instant) -> bool {
        self.caught_up_at <= now.after_secs(UNCONFIRMED_EVERY * (UNCONFIRMED_AT_ONCE - 1))
    }

    fn sent(&mut self, now: Instant) {
        self.caught_up_at = self.caught_up_at.max(now).after_secs(UNCONFIRMED_EVERY);
    }
}

/// One observation.
pub(crate) struct Observation {
    slot: u8,
    server: ShortServerId,
    observer: Observer,
    path: Path,
    format: Format,
    progress: Progress,
    /// The number as last notified and as last evaluated; not a number for anything else.
    notified: f64,
    previous: f64,
    confirmed_at: Instant,
    /// When it began; renewed, it goes on.
    #[cfg(feature = "offline")]
    began_at: Instant,
    /// It is one place of several that are notified together.
    #[cfg(feature = "composite")]
    pub(crate) is_part: bool,
}

impl Observation {
    /// Of a place whose number is this, which is told to the observer now.
    pub(crate) fn new(
        now: Instant,
        slot: u8,
        server: ShortServerId,
        observer: Observer,
        (path, format): (Path, Format),
        number: Option<f64>,
    ) -> Self {
        let number = number.unwrap_or(f64::NAN);
        Observation {
            slot,
            server,
            observer,
            path,
            format,
            progress: Progress { notified: now, evaluated: now, changed: false, due: false },
            notified: number,
            previous: number,
            confirmed_at: now,
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
    fn part(&self) -> Option<(usize, Token, Path)> {
        None
    }

    /// It was notified, of this number.
    fn notified(&mut self, now: Instant, number: Option<f64>, delivery: Delivery) {
        self.progress = Progress { notified: now, evaluated: now, changed: false, due: false };
        self.notified = number.unwrap_or(f64::NAN);
        self.previous = self.notified;
        if delivery == Delivery::Confirmable {
            self.confirmed_at = now;
        }
    }
}

/// The attributes that a server attached to one path, in half the memory of [`Attributes`].
struct Attached {
    thresholds: [f64; 3],
    periods: [u32; 4],
    /// Bits: which periods are set, then which thresholds.
    present: u8,
    server: ShortServerId,
    path: Path,
}

impl Attached {
    fn new(server: ShortServerId, path: Path, attributes: &Attributes) -> Self {
        let Attributes { pmin, pmax, gt, lt, st, epmin, epmax } = *attributes;
        let (periods, thresholds) = ([pmin, pmax, epmin, epmax], [gt, lt, st]);
        let is_set = periods.iter().map(Option::is_some).chain(thresholds.iter().map(Option::is_some));
        Attached {
            present: is_set.rev().fold(0, |bits, is_set| bits << 1 | u8::from(is_set)),
            thresholds: thresholds.map(Option::unwrap_or_default),
            periods: periods.map(Option::unwrap_or_default),
            server,
            path,
        }
    }

    fn attributes(&self) -> Attributes {
        let ([pmin, pmax, epmin, epmax], [gt, lt, st]) = (self.periods, self.thresholds);
        let is_set = |bit: u8| self.present & 1 << bit != 0;
        Attributes {
            pmin: is_set(0).then_some(pmin),
            pmax: is_set(1).then_some(pmax),
            epmin: is_set(2).then_some(epmin),
            epmax: is_set(3).then_some(epmax),
            gt: is_set(4).then_some(gt),
            lt: is_set(5).then_some(lt),
            st: is_set(6).then_some(st),
        }
    }
}

/// The operation that an observation repeats: of one place, or of those of a composite observation.
fn read<'p>(target: Target<'p>, places: &'p [Path], format: Format) -> Operation<'p> {
    #[cfg(feature = "composite")]
    if !places.is_empty() {
        let paths = Paths::List { prefix: target.prefix, paths: places };
        return Operation::ReadComposite { paths, accept: Some(format) };
    }
    let _ = places;
    Operation::Read { target, accept: Some(format) }
}

/// All observations and attributes.
pub(crate) struct Reporting<const O: usize, const T: usize> {
    /// Who was notified longest ago comes first.
    observations: Vec<Observation, O>,
    attached: Vec<Attached, T>,
    sequence: Sequence,
}

impl<const O: usize, const T: usize> Reporting<O, T> {
    pub(crate) const fn new() -> Self {
        Reporting { observations: Vec::new(), attached: Vec::new(), sequence: Sequence::after(0) }
    }

    /// Begins an observation with the answer that goes out now. `false` when there is no room (RFC 7641 §4.1: it is then an
    /// ordinary answer). One with the same token must have been ended.
    pub(crate) fn begin(&mut self, observation: Observation) -> bool {
        self.observations.push(observation).is_ok()
    }

    /// Ends the observation with the token of one that is about to begin; of the same place it goes on (RFC 7641 §3.3).
    pub(crate) fn replace(&mut self, observation: &mut Observation) {
        #[cfg(feature = "offline")]
        if let Some(former) = self.observations.iter().find(|former| {
            former.is(usize::from(observation.slot), observation.observer.token)
                && former.path == observation.path
                && former.part().is_none()
        }) {
            observation.began_at = former.began_at;
        }
        self.cancel(usize::from(observation.slot), observation.observer.token);
    }

    /// The sequence number of the answer that begins an observation.
    pub(crate) fn advance(&mut self) -> u32 {
        self.sequence.advance()
    }

    /// The places of a composite observation; none of one place.
    #[cfg(feature = "composite")]
    fn places_at(&self, index: usize) -> crate::composite::Places {
        let part = self.observations.get(index).and_then(Observation::part);
        part.map(|(slot, token, _)| self.places_of(slot, token)).unwrap_or_default()
    }

    #[cfg(not(feature = "composite"))]
    fn places_at(&self, _: usize) -> [Path; 0] {
        []
    }

    #[cfg(feature = "composite")]
    pub(crate) fn observations(&self) -> impl Iterator<Item = &Observation> {
        self.observations.iter()
    }

    /// Ends the observation with this token.
    pub(crate) fn cancel(&mut self, slot: usize, token: Token) {
        self.end(slot, &|observation| observation.observer.token == token);
    }

    /// Ends the observation of this path, whatever its token: some servers cancel with a fresh one.
    pub(crate) fn cancel_path(&mut self, slot: usize, token: Token, path: Path) {
        let is_by_token = self.is_token(slot, token);
        self.end(slot, &|observation| {
            if is_by_token {
                observation.observer.token == token
            } else {
                observation.path == path && observation.part().is_none()
            }
        });
    }

    /// Ends all observations of a session.
    pub(crate) fn forget_session(&mut self, slot: usize) {
        self.end(slot, &|_| true);
    }

    fn end(&mut self, slot: usize, is_meant: &dyn Fn(&Observation) -> bool) {
        self.observations
            .retain(|observation| usize::from(observation.slot) != slot || !is_meant(observation));
    }

    /// Ends what lies below an instance that was deleted, and drops the attributes there.
    pub(crate) fn forget_instance(&mut self, path: Path) {
        self.detach(&|attached| attached.path.starts_with(path));
        self.changed(path);
    }

    /// Drops the attributes of instances that are no more.
    pub(crate) fn forget_deleted(&mut self, tree: &Tree<'_, '_, '_>) {
        self.detach(&|Attached { path, .. }| match *path.ids() {
            [object, instance, ..] => !tree.has_instance(object, instance),
            _ => false,
        });
    }

    /// Drops the attributes of servers that are no more.
    pub(crate) fn forget_servers(&mut self, is_known: impl Fn(ShortServerId) -> bool) {
        self.detach(&|attached| !is_known(attached.server));
    }

    /// Whether a living observation of this session has the token.
    pub(crate) fn is_token(&self, slot: usize, token: Token) -> bool {
        self.observations.iter().any(|observation| observation.is(slot, token))
    }

    /// Something changed at, above or below this path.
    pub(crate) fn changed(&mut self, path: Path) {
        for observation in &mut self.observations {
            if observation.path.starts_with(path) || path.starts_with(observation.path) {
                observation.progress.changed = true;
            }
        }
    }

    /// The attributes that a server attached to exactly this path.
    pub(crate) fn attributes_at(&self, server: ShortServerId, path: Path) -> Attributes {
        let found = self.attached.iter().find(|attached| attached.server == server && attached.path == path);
        found.map(Attached::attributes).unwrap_or_default()
    }

    /// The attributes that count for a path: its own, then those of the levels above.
    pub(crate) fn inherited(&self, server: ShortServerId, path: Path) -> Attributes {
        let mut attributes = self.attributes_at(server, path);
        let mut place = path;
        while let Some(parent) = place.parent() {
            place = parent;
            attributes = attributes.or(&self.attributes_at(server, place));
        }
        attributes
    }

    /// Executes Write-Attributes, Core 1.1.1 §6.3.4.
    pub(crate) fn write_attributes(
        &mut self,
        server: ShortServerId,
        path: Path,
        change: &AttributesChange,
    ) -> Result<(), Error> {
        let attributes = change.apply(&self.attributes_at(server, path));
        attributes.check()?;
        let found =
            self.attached.iter_mut().find(|attached| attached.server == server && attached.path == path);
        match found {
            Some(attached) => *attached = Attached::new(server, path, &attributes),
            None if attributes.is_empty() => {}
            None => {
                let attached = Attached::new(server, path, &attributes);
                self.attached.push(attached).map_err(|_| Error::Internal)?;
            }
        }
        self.detach(&|attached| attached.present == 0);
        Ok(())
    }

    /// Session and server of an observation, by its place.
    #[cfg(feature = "offline")]
    pub(crate) fn observer_at(&self, index: usize) -> Option<(usize, ShortServerId)> {
        self.observations.get(index).map(|observation| (usize::from(observation.slot), observation.server))
    }

    /// Its token and format.
    #[cfg(feature = "offline")]
    pub(crate) fn observed_as(&self, index: usize) -> Option<(Token, Format)> {
        self.observations.get(index).map(|observation| (observation.observer.token, observation.format))
    }

    /// Calls `with` with what it repeats.
    #[cfg(feature = "offline")]
    pub(crate) fn read_of<R>(
        &self,
        index: usize,
        prefix: Option<&str>,
        with: impl FnOnce(&Operation<'_>) -> R,
    ) -> Option<R> {
        let Observation { path, format, .. } = *self.observations.get(index)?;
        Some(with(&read(Target { prefix, path }, &self.places_at(index), format)))
    }

    /// The session of the observation with this token of a server, if it had begun by then.
    #[cfg(feature = "offline")]
    pub(crate) fn slot_of(&self, server: ShortServerId, token: Token, by: Instant) -> Option<usize> {
        let is_it = |observation: &&Observation| {
            observation.server == server && observation.observer.token == token && observation.began_at <= by
        };
        self.observations.iter().find(is_it).map(|observation| usize::from(observation.slot))
    }

    /// Who observes with this token.
    #[cfg(feature = "offline")]
    pub(crate) fn observer_of(&self, slot: usize, token: Token) -> Option<Observer> {
        let found = self.observations.iter().find(|observation| observation.is(slot, token));
        found.map(|observation| observation.observer.clone())
    }

    /// The observation with this token is notified once more, whether something changed or not.
    #[cfg(feature = "offline")]
    pub(crate) fn repeat(&mut self, slot: usize, token: Token) {
        for observation in self.observations.iter_mut().filter(|observation| observation.is(slot, token)) {
            observation.progress.due = true;
        }
    }

    fn detach(&mut self, is_meant: &dyn Fn(&Attached) -> bool) {
        self.attached.retain(|attached| !is_meant(attached));
    }
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// The attributes that count for an observation, the defaults of the Server object at the end.
    fn attributes_of(&self, observation: &Observation) -> Attributes {
        let attributes = self.reporting.inherited(observation.server, observation.path);
        match self.core.accounts.server_of(observation.server) {
            Some(server) => {
                let defaults =
                    Attributes { pmin: server.value(2), pmax: server.value(3), ..Attributes::default() };
                attributes.or(&defaults)
            }
            None => attributes,
        }
    }

    /// When the next notification has to be thought about.
    pub(crate) fn next_report(&self) -> Option<Instant> {
        let next = self.reporting.observations.iter().filter_map(|observation| {
            let session = self.sessions.get(usize::from(observation.slot))?.as_ref()?;
            // Without room for another message the peer's own timeout comes first.
            let waits = !session.peer.as_ref()?.can_request(self.now);
            #[cfg(feature = "offline")]
            let waits = match self.offline.is_offline {
                true => !self.is_stored_for(observation.server),
                false => waits || session.backlog.is_there(),
            };
            if waits {
                return None;
            }
            match self.attributes_of(observation).decide(self.now, &observation.progress) {
                Decision::Notify | Decision::Evaluate => Some(self.now),
                Decision::Wait(at) => Some(at),
                Decision::Idle => None,
            }
        });
        next.min()
    }

    /// Writes the next notification that is due to a server; the message's place in `out`.
    pub(crate) fn poll_notification(
        &mut self,
        now: Instant,
        slot: usize,
        out: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) -> Option<Range<usize>> {
        let session = self.sessions.get(slot)?.as_ref()?;
        if !session.registration.is_alive() || !session.peer.as_ref()?.can_request(now) {
            return None;
        }
        #[cfg(feature = "offline")]
        if session.backlog.is_there() {
            return None;
        }
        for index in 0..self.reporting.observations.len() {
            if !self.is_notification_due(now, slot, index, objects) {
                continue;
            }
            match self.notify(now, index, out, objects, rng) {
                Ok(range) => {
                    self.counters.notifications = self.counters.notifications.saturating_add(1);
                    return Some(range);
                }
                Err(error) if is_to_wait(error) => {}
                // What cannot be sent at all is not tried for ever.
                Err(_) => {
                    if let Some(observation) = self.reporting.observations.get_mut(index) {
                        observation.progress =
                            Progress { notified: now, evaluated: now, changed: false, due: false };
                    }
                }
            }
        }
        None
    }

    pub(crate) fn is_notification_due(
        &mut self,
        now: Instant,
        slot: usize,
        index: usize,
        objects: &mut [&mut dyn Object],
    ) -> bool {
        loop {
            let Some(observation) = self.reporting.observations.get(index) else { return false };
            if usize::from(observation.slot) != slot {
                return false;
            }
            let attributes = self.attributes_of(observation);
            match attributes.decide(now, &observation.progress) {
                Decision::Notify => return true,
                Decision::Wait(_) | Decision::Idle => return false,
                Decision::Evaluate => {
                    let path = observation.path;
                    let number = self.number_at(path, objects);
                    let Some(observation) = self.reporting.observations.get_mut(index) else { return false };
                    let is_met = match number {
                        Some(current) if !observation.notified.is_nan() => {
                            let Observation { notified, previous, .. } = *observation;
                            attributes.is_met(Samples { notified, previous, current })
                        }
                        // Departure: an array is not compared with thresholds, every change of it counts.
                        _ => observation.progress.changed,
                    };
                    observation.previous = number.unwrap_or(f64::NAN);
                    observation.progress.evaluated = now;
                    observation.progress.changed = false;
                    observation.progress.due |= is_met;
                }
            }
        }
    }

    fn notify(
        &mut self,
        now: Instant,
        index: usize,
        out: &mut [u8],
        objects: &mut [&mut dyn Object],
        rng: &mut Rng<'_>,
    ) -> Result<Range<usize>, SendError> {
        let Some(observation) = self.reporting.observations.get(index) else { return Err(SendError::Full) };
        let Observation { slot, path, format, confirmed_at, .. } = *observation;
        let slot = usize::from(slot);
        let observer = observation.observer.clone();
        let session = self.session_mut(slot).ok_or(SendError::Full)?;
        let (room, has_room) = (session.room(), session.pace.has_room(now));
        let (delivery, largest) = if has_room && now < confirmed_at.after_secs(CONFIRMED_EVERY) {
            (Delivery::NonConfirmable, usize::MAX)
        } else {
            (Delivery::Confirmable, LARGEST_KEPT)
        };
        let szx = Szx::fitting(self.config.block_size.min(largest));
        let mut sequence = self.reporting.sequence;
        let head = Head {
            observe: Some(sequence.advance()),
            content_format: Some(ContentFormat(format.0)),
            max_age: None,
        };
        let mut writer = Writer::new(out, room, Code::CONTENT);
        let places = self.reporting.places_at(index);
        let read = read(Target { prefix: self.config.prefix(), path }, &places, format);
        let served = self.write_content(slot, &read, Serve::new(None, szx), &head, &mut writer, objects);
        let (is_gone, delivery) = match served {
            Ok(_) => (false, delivery),
            Err(ServeError::Produce(error)) => {
                // RFC 7641 §4.2: an error response ends the observation; no later one makes good for its loss.
                writer.restart(mapping::code(&Err(error)));
                (true, Delivery::Confirmable)
            }
            Err(ServeError::OutOfRange) => return Err(SendError::TooLong),
            Err(ServeError::Write(error)) => return Err(error.into()),
        };
        let session = self.sessions.get_mut(slot).and_then(Option::as_mut).ok_or(SendError::Full)?;
        let (peer, mut hook) = session.peer(now, rng).ok_or(SendError::Full)?;
        let sent = peer.notify(now, delivery, &observer, writer, &mut hook, rng)?;
        if delivery == Delivery::NonConfirmable {
            session.pace.sent(now);
        }
        self.reporting.sequence = sequence;
        if is_gone {
            self.reporting.cancel(slot, observer.token);
        } else {
            self.told(now, slot, observer.token, delivery, objects);
        }
        Ok(sent)
    }

    /// The observation with this token was notified. It goes behind the others: where only one can go out at a time all have
    /// their turn.
    pub(crate) fn told(
        &mut self,
        now: Instant,
        slot: usize,
        token: Token,
        delivery: Delivery,
        objects: &mut [&mut dyn Object],
    ) {
        let is_told = |observation: &Observation| observation.is(slot, token);
        for _ in 0..self.reporting.observations.iter().filter(|told| is_told(told)).count() {
            let index = self.reporting.observations.iter().position(is_told).unwrap_or_default();
            let mut observation = self.reporting.observations.remove(index);
            let number = self.number_at(observation.path, objects);
            observation.notified(now, number, delivery);
            let _ = self.reporting.observations.push(observation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attached_attributes_are_those_that_were_written() {
        let all = Attributes {
            pmin: Some(0),
            pmax: Some(60),
            gt: Some(21.5),
            lt: Some(-3.0),
            st: Some(0.0),
            epmin: Some(1),
            epmax: Some(u32::MAX),
        };
        let some = Attributes { pmax: Some(60), lt: Some(-3.0), epmax: Some(2), ..Attributes::default() };
        let others = Attributes { pmax: None, lt: None, epmax: None, ..all };
        for attributes in [all, some, others, Attributes::default()] {
            let attached = Attached::new(ShortServerId::FIRST, Path::ROOT, &attributes);
            assert_eq!(attached.attributes(), attributes);
            assert_eq!(attached.present == 0, attributes.is_empty());
        }
    }
}
