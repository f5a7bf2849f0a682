//! What servers observe, the attributes they attached, and when a notification is due.
//!
//! LwM2M Core 1.1.1 §5.1.2 and §6.4. Invariant: attributes belong to the server that wrote them; an observation belongs
//! to the session it came by and ends with it.

use core::num::NonZeroU8;
use core::ops::Range;

use heapless::Vec;
use lwm2m_coap::block::{Head, Serve, ServeError, Szx};
use lwm2m_coap::observe::Sequence;
use lwm2m_coap::{Code, ContentFormat, Delivery, Instant, Rng, SendError, Token, Writer};
#[cfg(feature = "composite")]
use lwm2m_objects::Paths;
use lwm2m_objects::{
    Attributes, AttributesChange, Decision, Error, Format, Object, Operation, Path, Target, Tree, mapping,
};

use crate::account::ShortServerId;
use crate::attached::{Attached, Attachments};
use crate::client::Client;
use crate::observation::{Numbers, Observation};
use crate::requests::is_to_wait;
use crate::session::LARGEST;
#[cfg(feature = "offline")]
use crate::session::Observer;

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
    attached: Attachments<T>,
    numbers: Numbers<T>,
    sequence: Sequence,
}

impl<const O: usize, const T: usize> Reporting<O, T> {
    pub(crate) const fn new() -> Self {
        Reporting {
            observations: Vec::new(),
            attached: Attachments::new(),
            numbers: Numbers::new(),
            sequence: Sequence::after(0),
        }
    }

    /// `false` when there is no room.
    fn begin(&mut self, mut observation: Observation) -> bool {
        let is_free = |id: &NonZeroU8| !self.observations.iter().any(|other| other.id == *id);
        observation.id = (1..=u8::MAX).filter_map(NonZeroU8::new).find(is_free).unwrap_or(NonZeroU8::MIN);
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
        let observations = &self.observations;
        self.numbers.forget(|of| !observations.iter().any(|observation| observation.id == of));
    }

    /// Ends what lies below an instance that was deleted, and drops the attributes there.
    pub(crate) fn forget_instance(&mut self, path: Path) {
        self.attached.detach(&|attached| attached.path.starts_with(path));
        self.changed(path);
    }

    /// Drops the attributes of instances that are no more.
    pub(crate) fn forget_deleted(&mut self, tree: &Tree<'_, '_, '_>) {
        self.attached.detach(&|Attached { path, .. }| match *path.ids() {
            [object, instance, ..] => !tree.has_instance(object, instance),
            _ => false,
        });
    }

    /// Drops the attributes of servers that are no more.
    pub(crate) fn forget_servers(&mut self, is_known: impl Fn(ShortServerId) -> bool) {
        self.attached.detach(&|attached| !is_known(attached.server));
    }

    /// Whether a living observation of this session has the token.
    pub(crate) fn is_token(&self, slot: usize, token: Token) -> bool {
        self.observations.iter().any(|observation| observation.is(slot, token))
    }

    /// Something changed at, above or below this path.
    pub(crate) fn changed(&mut self, path: Path) {
        for observation in &mut self.observations {
            let nearest = match observation.path {
                observed if path.starts_with(observed) => path,
                observed if observed.starts_with(path) => observed,
                _ => continue,
            };
            let attributes = self.attached.inherited(observation.server, nearest);
            observation.note_change(attributes.has_thresholds());
        }
    }

    /// The attributes that a server attached to exactly this path.
    pub(crate) fn attributes_at(&self, server: ShortServerId, path: Path) -> Attributes {
        self.attached.at(server, path)
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
            observation.is_due = true;
        }
    }
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// The attributes that count for an observation, the defaults of the Server object at the end.
    fn attributes_of(&self, observation: &Observation) -> Attributes {
        let attributes = self.reporting.attached.inherited(observation.server, observation.path);
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
            match self.attributes_of(observation).decide(self.now, &observation.progress()) {
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
                        observation.told(now);
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
            match self.attributes_of(observation).decide(now, &observation.progress()) {
                Decision::Notify => return true,
                Decision::Wait(_) | Decision::Idle => return false,
                Decision::Evaluate => {
                    let Reporting { observations, attached, numbers, .. } = &mut self.reporting;
                    let Some(observation) = observations.get_mut(index) else { return false };
                    self.core.with_tree(false, objects, |tree| {
                        observation.evaluate(now, attached, numbers, tree);
                    });
                }
            }
        }
    }

    /// Begins an observation with the answer that goes out now. `false` when there is no room (RFC 7641 §4.1: it is then an
    /// ordinary answer). One with the same token must have been ended.
    pub(crate) fn begin(&mut self, observation: Observation, objects: &mut [&mut dyn Object]) -> bool {
        let is_begun = self.reporting.begin(observation);
        if is_begun {
            self.note_last(objects);
        }
        is_begun
    }

    /// Notes the numbers of the observation behind all others, which is told of them now.
    fn note_last(&mut self, objects: &mut [&mut dyn Object]) {
        let Reporting { observations, attached, numbers, .. } = &mut self.reporting;
        let Some(observation) = observations.last_mut() else { return };
        self.core.with_tree(false, objects, |tree| observation.note(true, attached, numbers, tree));
    }

    /// Executes Write-Attributes, Core 1.1.1 §6.3.4. Numbers that are observed are compared with the new thresholds from now on.
    pub(crate) fn attach(
        &mut self,
        server: ShortServerId,
        path: Path,
        change: &AttributesChange,
        objects: &mut [&mut dyn Object],
    ) -> Result<(), Error> {
        let Reporting { observations, attached, numbers, .. } = &mut self.reporting;
        let thresholds = |Attributes { gt, lt, st, .. }: Attributes| [gt, lt, st];
        let former = thresholds(attached.at(server, path));
        attached.write(server, path, change)?;
        if thresholds(attached.at(server, path)) == former {
            return Ok(());
        }
        let is_concerned = |it: &&mut Observation| {
            it.server == server && (it.path.starts_with(path) || path.starts_with(it.path))
        };
        self.core.with_tree(false, objects, |tree| {
            for observation in observations.iter_mut().filter(is_concerned) {
                observation.note(false, attached, numbers, tree);
            }
        });
        Ok(())
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
        let Observation { slot, path, format, .. } = *observation;
        let (slot, is_to_confirm) = (usize::from(slot), observation.is_to_confirm(now));
        let observer = observation.observer.clone();
        let session = self.session_mut(slot).ok_or(SendError::Full)?;
        let (room, has_room) = (session.room(), session.pace.has_room(now));
        let (delivery, largest) = if has_room && !is_to_confirm {
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
            observation.notified(now, delivery);
            let _ = self.reporting.observations.push(observation);
            self.note_last(objects);
        }
    }
}
