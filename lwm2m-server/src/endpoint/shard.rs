//! Several endpoints as parts of one server, each on a thread of its own: what they share, and what one hands to another.
//!
//! 1. The kernel brings the datagrams of one address to one thread. A record with a Connection ID names its thread; one that
//!    came in elsewhere, because its device moved, is handed over.
//! 2. A device belongs to the thread where it registered last, or was heard from since (`moving.rs`).
//! 3. A context of OSCORE belongs to the part that its kid leads to, so that there is one of it; what names no kid and comes from where
//!    its device is follows.
//! 4. Answers to callers go back to the thread that was asked, and a session that is closed is closed on all.
//!
//! Invariant: a device has one owner; nothing on a packet's way waits for another thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lwm2m_coap::{Instant, Rng};
use zeroize::Zeroizing;

use crate::credentials::{Authenticated, Role};
use crate::event::Event;
use crate::operation::{Answer, RequestError};

use super::counters::Counters;
use super::directory::Directory;
use super::location::VirtualShard;
use super::moving::Moved;
use super::saved::Restored;
use super::slab::Key;
use super::{Address, Endpoint, Listener, RequestId, Transmit};

/// What the parts of one server have in common.
pub struct Shared {
    pub(crate) directory: Directory,
    /// Bytes that the object lists of all parts take.
    pub(crate) object_lists: AtomicUsize,
    cookie_root: OnceLock<Zeroizing<[u8; 32]>>,
    restored: OnceLock<Restored>,
    /// The part that has the OSCORE context whose device is at an address; several locks, as of the directory.
    at: [Mutex<HashMap<(Listener, Address), u8>>; LOCKS],
    /// How many there are.
    located: AtomicUsize,
}

/// How many locks there are for the addresses of devices under OSCORE.
const LOCKS: usize = 64;

impl Shared {
    /// What a new server's parts have in common.
    #[must_use]
    pub fn new() -> Self {
        Self {
            directory: Directory::new(),
            object_lists: AtomicUsize::new(0),
            cookie_root: OnceLock::new(),
            restored: OnceLock::new(),
            at: core::array::from_fn(|_| Mutex::default()),
            located: AtomicUsize::new(0),
        }
    }

    fn at(&self, (local, address): (Listener, Address)) -> MutexGuard<'_, HashMap<(Listener, Address), u8>> {
        let [.., a, b, c] = *address.bytes();
        let index = usize::from(a ^ b ^ c).wrapping_add(local as usize) % LOCKS;
        let [first, ..] = &self.at;
        self.at.get(index).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device of an OSCORE context of this part is at an address.
    pub(crate) fn locate(&self, place: (Listener, Address), part: u8) {
        if self.at(place).insert(place, part).is_none() {
            self.located.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It is there no longer.
    pub(crate) fn leave(&self, place: (Listener, Address), part: u8) {
        let mut at = self.at(place);
        if at.get(&place) == Some(&part) {
            at.remove(&place);
            self.located.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn part_at(&self, place: (Listener, Address)) -> Option<u8> {
        if self.located.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.at(place).get(&place).copied()
    }

    /// Which parts have the remotes that were restored and are found by their address alone. Once, before the parts run.
    pub(crate) fn set_restored(&self, restored: Restored) {
        let _ = self.restored.set(restored);
    }

    /// Where the secrets of the cookies come from: each part takes the cookies of the others.
    pub(crate) fn cookie_root(&self, rng: &mut Rng<'_>) -> &[u8; 32] {
        self.cookie_root.get_or_init(|| {
            let mut root = Zeroizing::new([0; 32]);
            rng(&mut *root);
            root
        })
    }

    /// Which part a registered device belongs to.
    #[must_use]
    pub fn owner(&self, endpoint: &str) -> Option<u8> {
        self.directory.find(endpoint).map(|claim| claim.owner)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Which part of a server an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 0 on.
    pub index: u8,
    /// How many there are, 1 or more.
    pub of: u8,
}

impl Part {
    /// The only one.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// The part that owns a virtual shard.
    pub(crate) fn owner(self, shard: VirtualShard) -> u8 {
        shard.0.checked_rem(self.of).unwrap_or(0)
    }

    /// One of the virtual shards of this part.
    pub(crate) fn shard(self, number: u32) -> VirtualShard {
        let each = u32::from(u8::MAX).saturating_add(1).checked_div(self.of.into()).unwrap_or(1).max(1);
        let turn = number.checked_rem(each).unwrap_or(0).saturating_mul(self.of.into());
        VirtualShard(u8::try_from(turn).unwrap_or(0).saturating_add(self.index))
    }

    /// The `number`th of the numbers that only this part gives out.
    pub(crate) fn number(self, number: u64) -> u64 {
        number.wrapping_mul(self.of.into()).wrapping_add(self.index.into())
    }

    /// The part that gave a number out.
    pub(crate) fn giver(self, number: u64) -> u8 {
        u8::try_from(number.checked_rem(self.of.into()).unwrap_or(0)).unwrap_or(0)
    }

    /// A limit's share.
    pub(crate) fn share(self, limit: usize) -> usize {
        limit.div_ceil(usize::from(self.of).max(1)).max(1)
    }

    pub(crate) fn share_of_rate(self, rate: u32) -> u32 {
        rate.div_ceil(u32::from(self.of).max(1)).max(1)
    }
}

/// What one part hands to another: to be given to its [`Endpoint::accept`].
#[derive(Debug)]
pub struct Parcel(pub(crate) Content);

#[derive(Debug)]
pub(crate) enum Content {
    /// A datagram of a session there.
    Datagram { local: Listener, from: Address, bytes: Box<[u8]> },
    /// The device of this registration has registered elsewhere.
    Superseded { registered: Key },
    /// A device has a new session in the part `to`.
    Fetch { endpoint: Arc<str>, to: u8 },
    /// The answer: its registration, if it has one.
    HandOver { endpoint: Arc<str>, moved: Option<Box<Moved>> },
    /// What a device said while its registration was on its way here.
    Kept { association: Key, message: Box<[u8]> },
    /// The outcome of a request that was asked of the receiver.
    Outcome { id: RequestId, outcome: Result<Answer, RequestError> },
    /// Sessions that may not go on.
    CloseSessions { endpoint: Arc<str>, role: Role, generation: Option<u32>, reason: Arc<str> },
    /// A bootstrap was begun elsewhere.
    EndBootstraps { endpoint: Arc<str> },
    /// A device is to be told to bootstrap.
    Trigger { endpoint: Arc<str> },
    /// The OSCORE context of a credential is in a session elsewhere.
    EndContexts { who: Authenticated },
}

impl Parcel {
    /// Whether it may be lost, as a datagram on its way.
    #[must_use]
    pub const fn is_datagram(&self) -> bool {
        matches!(self.0, Content::Datagram { .. })
    }
}

impl Endpoint {
    /// The next parcel and the number of the part that it is for. Call until `None`.
    pub fn poll_parcel(&mut self) -> Option<(u8, Parcel)> {
        self.parcels.pop_front()
    }

    /// Takes a parcel from another part. What is returned lies in `out` and is to be sent first; then drain the `poll_*`
    /// methods.
    pub fn accept(
        &mut self,
        now: Instant,
        Parcel(content): Parcel,
        rng: &mut Rng<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        match content {
            Content::Datagram { local, from, mut bytes } => {
                return self.handle_datagram(now, local, from, &mut bytes, rng, out);
            }
            Content::Superseded { registered } => self.superseded(now, registered),
            Content::Fetch { endpoint, to } => self.hand_over(endpoint, to),
            Content::HandOver { endpoint, moved } => self.take_over(now, &endpoint, moved),
            Content::Kept { association, message } => {
                return self.take_kept(now, association, message, rng, out);
            }
            Content::Outcome { id, outcome } => self.outcomes.push_back((id, outcome)),
            Content::CloseSessions { endpoint, role, generation, reason } => {
                self.close_sessions(now, &endpoint, role, generation, &reason);
            }
            Content::EndBootstraps { endpoint } => self.drop_bootstraps(&endpoint),
            Content::Trigger { endpoint } => self.trigger_bootstrap(now, &endpoint),
            Content::EndContexts { who } => self.end_contexts(&who),
        }
        None
    }

    pub(crate) fn send_parcel(&mut self, to: u8, content: Content) {
        self.parcels.push_back((to, Parcel(content)));
    }

    fn others(&self) -> impl Iterator<Item = u8> + use<> {
        let Part { index, of } = self.part;
        (0..of).filter(move |other| *other != index)
    }

    /// Whether a datagram belongs to another part; then it is on its way there.
    pub(crate) fn is_passed_on(
        &mut self,
        local: Listener,
        from: Address,
        id: &[u8],
        datagram: &[u8],
    ) -> bool {
        let Some(owner) = id.first().map(|shard| self.part.owner(VirtualShard(*shard))) else { return false };
        let is_other = owner != self.part.index;
        if is_other {
            Counters::add(&mut self.counters.passed_on);
            self.send_parcel(owner, Content::Datagram { local, from, bytes: datagram.into() });
        }
        is_other
    }

    /// Whether a message without DTLS is from where the device of an OSCORE context of another part is; then it is on its way there.
    pub(crate) fn is_elsewhere(&mut self, local: Listener, from: Address, datagram: &[u8]) -> bool {
        if self.part.of == 1 {
            return false;
        }
        let owner = self.shared.part_at((local, from)).filter(|owner| *owner != self.part.index);
        if let Some(owner) = owner {
            Counters::add(&mut self.counters.passed_on);
            self.send_parcel(owner, Content::Datagram { local, from, bytes: datagram.into() });
        }
        owner.is_some()
    }

    /// Whether a datagram from an address that is not known here belongs to a remote that was restored in another part; then
    /// it is on its way there.
    pub(crate) fn is_restored_elsewhere(&mut self, local: Listener, from: Address, datagram: &[u8]) -> bool {
        let Some(restored) = self.shared.restored.get() else { return false };
        let owner = restored.get(&(local, from)).copied().filter(|owner| *owner != self.part.index);
        if let Some(owner) = owner {
            Counters::add(&mut self.counters.passed_on);
            self.send_parcel(owner, Content::Datagram { local, from, bytes: datagram.into() });
        }
        owner.is_some()
    }

    /// Tells the former owner of a device that it has registered here.
    pub(crate) fn supersede_elsewhere(&mut self, owner: u8, registered: Key) {
        self.send_parcel(owner, Content::Superseded { registered });
    }

    /// The outcome of a request for whoever asked.
    pub(crate) fn settle_request(&mut self, id: RequestId, outcome: Result<Answer, RequestError>) {
        let giver = self.part.giver(id.0);
        if giver == self.part.index {
            self.outcomes.push_back((id, outcome));
        } else {
            self.send_parcel(giver, Content::Outcome { id, outcome });
        }
    }

    /// Tells the other parts to close sessions as [`close_sessions`](Self::close_sessions) does here.
    pub fn close_sessions_elsewhere(
        &mut self,
        endpoint: &str,
        role: Role,
        generation: Option<u32>,
        reason: &str,
    ) {
        for other in self.others() {
            let (endpoint, reason) = (endpoint.into(), reason.into());
            self.send_parcel(other, Content::CloseSessions { endpoint, role, generation, reason });
        }
    }

    /// Tells the other parts that a device has begun a bootstrap here.
    pub(crate) fn end_bootstraps_elsewhere(&mut self, endpoint: &Arc<str>) {
        for other in self.others() {
            self.send_parcel(other, Content::EndBootstraps { endpoint: Arc::clone(endpoint) });
        }
    }

    /// Tells the other parts that the OSCORE context of a credential is in a session here.
    pub(crate) fn end_contexts_elsewhere(&mut self, who: &Authenticated) {
        for other in self.others() {
            self.send_parcel(other, Content::EndContexts { who: who.clone() });
        }
    }

    /// Whether the bootstrap of a device is to be triggered by another part, which is told then, or here as soon as its
    /// registration has come.
    pub(crate) fn is_triggered_elsewhere(&mut self, endpoint: &str) -> bool {
        if self.moves.trigger(endpoint) {
            return true;
        }
        let owner = self.shared.directory.find(endpoint).map(|claim| claim.owner);
        let other = owner.filter(|owner| *owner != self.part.index);
        if let Some(other) = other {
            self.send_parcel(other, Content::Trigger { endpoint: endpoint.into() });
        }
        other.is_some()
    }

    /// A device has registered elsewhere: what was asked of the former registration is not answered in the new one.
    fn superseded(&mut self, now: Instant, registered: Key) {
        if let Some(registration) = self.registry.remove(registered) {
            self.observations_ended(&registration, "the device registered again");
            self.forget_registration(now, registered, &registration);
        }
    }

    /// Bootstraps of a device that has begun another one elsewhere. The credentials are not told: for them there is but one.
    fn drop_bootstraps(&mut self, endpoint: &str) {
        for key in self.by_name.get(endpoint).cloned().unwrap_or_default() {
            let Some(association) = self.associations.get_mut(key) else { continue };
            let downlink =
                association.passing.downlink_mut().filter(|_| association.local.role() == Role::Bootstrap);
            let Some(bootstrap) = downlink.and_then(|downlink| downlink.bootstrap.take()) else { continue };
            Counters::add(&mut self.counters.bootstraps_failed);
            self.events.push_back(Event::BootstrapFailed {
                endpoint: bootstrap.who.endpoint().clone(),
                step: bootstrap.step(),
                code: None,
            });
            self.interrupt(key);
            self.mark_ready(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_virtual_shard_has_one_owner_and_every_part_gives_out_its_own() {
        for of in [1, 2, 3, 7, 64, 255] {
            for index in 0..of {
                let part = Part { index, of };
                for number in 0..600 {
                    assert_eq!(part.owner(part.shard(number)), index, "{part:?}");
                    assert_eq!(part.giver(part.number(number.into())), index);
                }
            }
        }
    }

    #[test]
    fn limits_are_shared_and_never_nothing() {
        assert_eq!(Part::WHOLE.share(10), 10);
        assert_eq!(Part { index: 1, of: 3 }.share(10), 4);
        assert_eq!(Part { index: 1, of: 3 }.share(0), 1);
    }
}
