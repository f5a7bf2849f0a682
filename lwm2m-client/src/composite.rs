//! Composite operations: one request for several places (LwM2M Core 1.1.1 §6.3.8, §6.3.9, §6.4.4).
//!
//! Later blocks of an answer may be asked for without the list of places, so the last list is kept. An observation of several
//! places is one [`Observation`] for each of them, under one token: whichever is due first, all are notified.
//!
//! Invariant: the list that is kept is that of the answer which is due.

use heapless::Vec;
use lwm2m_coap::{Instant, Message, Token};
use lwm2m_objects::format::Items;
use lwm2m_objects::{Content as Payload, Error, Format, Object, Path, Paths, Target};

use crate::client::Client;
use crate::event::Role;
use crate::observation::Observation;
use crate::reply::Reply;
use crate::reporting::Reporting;
use crate::session::Observer;

/// How many places one request may name.
pub(crate) const PLACES: usize = 16;

/// The places of a composite operation.
pub(crate) type Places = Vec<Path, PLACES>;

/// The last list that a server gave.
pub(crate) struct Selection {
    slot: usize,
    pub(crate) places: Places,
}

impl Selection {
    pub(crate) const NONE: Self = Selection { slot: 0, places: Places::new() };
}

/// Reads a list.
///
/// [`Error::TooLarge`] for more than [`PLACES`].
fn places(paths: &Paths<'_>) -> Result<Places, Error> {
    let mut places = Places::new();
    // Departure: LwM2M Transport 1.1.1 §6.4.4 has no code for a Read-Composite of too many places; 4.13 (RFC 7252 §5.9.2.9)
    // tells the server to ask in parts.
    paths.try_for_each(&mut |path| places.push(path).map_err(|_| Error::TooLarge))?;
    Ok(places)
}

impl<const S: usize, const O: usize, const T: usize, const A: usize, const B: usize, const U: usize>
    Client<'_, S, O, T, A, B, U>
{
    /// Keeps the list of a request for the answer. A later block without a list is of the one before.
    pub(crate) fn select(
        &mut self,
        slot: usize,
        message: &Message<'_>,
        paths: &Paths<'_>,
    ) -> Result<(), Error> {
        let is_later = matches!(message.options.block2(), Ok(Some(block)) if block.number() > 0);
        if is_later && message.payload.is_empty() {
            let is_kept = self.selection.slot == slot && !self.selection.places.is_empty();
            return if is_kept { Ok(()) } else { Err(Error::Incomplete) };
        }
        let is_needed = self
            .sessions
            .iter()
            .flatten()
            .any(|session| session.reply.as_ref().is_some_and(Reply::is_composite));
        if is_needed {
            return Err(Error::Unavailable);
        }
        self.selection = Selection { slot, places: places(paths)? };
        Ok(())
    }

    /// Begins to observe what is selected, with the answer that goes out now; its sequence number.
    pub(crate) fn begin_composite(
        &mut self,
        now: Instant,
        slot: usize,
        observer: &Observer,
        format: Format,
        objects: &mut [&mut dyn Object],
    ) -> Option<u32> {
        let Some(Role::Server(id)) = self.role_of(slot) else { return None };
        self.reporting.cancel(slot, observer.token);
        let mut is_whole = true;
        for index in 0..self.selection.places.len() {
            let place = self.selection.places.get(index).copied()?;
            let slot = u8::try_from(slot).ok()?;
            let mut part = Observation::new(now, slot, id, observer.clone(), (place, format));
            part.is_part = true;
            is_whole &= self.begin(part, objects);
        }
        if !is_whole {
            self.reporting.cancel(slot, observer.token);
        }
        is_whole.then(|| self.reporting.advance())
    }

    /// Marks what a Write-Composite wrote to.
    pub(crate) fn note_composite(&mut self, prefix: Option<&str>, content: Payload<'_>) {
        let Ok(items) = Items::new(&Target { prefix, path: Path::ROOT }, content) else { return };
        for item in items.flatten() {
            self.reporting.changed(item.path);
            self.is_changed |= matches!(item.path.object_id(), Some(1 | 2));
        }
    }

    /// Ends the observation of these places.
    pub(crate) fn cancel_composite(&mut self, slot: usize, token: Token) {
        if self.reporting.is_token(slot, token) {
            self.reporting.cancel(slot, token);
        } else if let Some(token) = self.reporting.token_of(slot, &self.selection.places) {
            self.reporting.cancel(slot, token);
        }
    }
}

impl<const O: usize, const T: usize> Reporting<O, T> {
    /// The places of the observation with this token.
    pub(crate) fn places_of(&self, slot: usize, token: Token) -> Places {
        self.parts(slot, token).take(PLACES).collect()
    }

    /// The token of the observation of exactly these places.
    fn token_of(&self, slot: usize, places: &[Path]) -> Option<Token> {
        let parts = self.observations().filter_map(Observation::part);
        let mut tokens = parts.filter(|(of, ..)| *of == slot).map(|(_, token, _)| token);
        tokens.find(|token| self.parts(slot, *token).eq(places.iter().copied()))
    }

    fn parts(&self, slot: usize, token: Token) -> impl Iterator<Item = Path> {
        let parts = self.observations().filter_map(Observation::part);
        parts.filter(move |(of, other, _)| (*of, *other) == (slot, token)).map(|(_, _, path)| path)
    }
}
