//! A planned restart: every remote that is settled is saved when the server stops, and goes on in the next run, with its
//! DTLS session, its registration and its observations.
//!
//! 1. [`Endpoint::save`]: every registration with the session of its device, if it has one, and the other sessions. Handshakes
//!    and requests under way are not saved; the callers hear that the server stopped.
//! 2. [`Endpoint::restore`] in the part that the first byte of its Connection ID leads to; one without is in the part that
//!    its name leads to, and the others hand on what comes from its address.
//!
//! Invariants: a saved session is restored once; each restored session leaves out as many sequence numbers as an earlier
//! run can have sent since it was saved, so that even a copy of the file makes no number come twice under one key.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use dtls_psk::SAVED_MAX;
use lwm2m_coap::observe::Freshness;
use lwm2m_coap::{Instant, MessageId, Parameters, Peer, Reply, Rng, Settled, Token, TokenPolicy};
use lwm2m_objects::{Format, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::credentials::{Authenticated, Context, Role};
use crate::operation::ObservationId;

use super::association::{Association, Who};
use super::connection_id::ConnectionIds;
use super::counters::Counters;
use super::location::VirtualShard;
use super::observation::{Observation, Observed as What, Wanted};
use super::path::Unproven;
use super::registry::{Binding, ObjectList, Registration};
use super::session::Connection;
use super::shard::Part;
use super::slab::{Key, Slab};
use super::{Address, Candidates, Endpoint, Listener};

/// A remote at rest, with the keys of its session in the clear: to be sealed before it is written anywhere.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    who: Who,
    /// Nothing for a registration whose device has no session.
    association: Option<Remote>,
    registration: Option<Box<Registered>>,
}

/// Milliseconds, before the stop if negative: clocks of two runs have nothing else in common.
type Offset = i64;

#[derive(Serialize, Deserialize)]
struct Remote {
    local: Listener,
    address: Address,
    /// While the address is not proven, how many bytes came from there and went there.
    unproven: Option<(u32, u32)>,
    session: Option<Session>,
    message_id: u16,
    /// The next token over DTLS.
    token: Option<NonZeroU64>,
    answered: Vec<Answered>,
    last_heard: Offset,
    kept_until: Offset,
}

#[derive(Serialize, Deserialize)]
struct Session {
    /// The first byte of its Connection ID, if it has one.
    shard: Option<u8>,
    connection: Zeroizing<Vec<u8>>,
}

/// A message of the remote that was answered.
#[derive(Serialize, Deserialize)]
struct Answered {
    id: u16,
    expiry: Offset,
    /// The answer; nothing of it for an acknowledgement.
    answer: Option<Vec<u8>>,
    is_silent: bool,
}

#[derive(Serialize, Deserialize)]
struct Registered {
    lifetime: u32,
    version: (u8, u8),
    queue: bool,
    binding: String,
    links: String,
    registered_at: Offset,
    updated_at: Offset,
    /// The slot of its location.
    slot: u32,
    observations: Vec<Observed>,
}

#[derive(Serialize, Deserialize)]
struct Observed {
    id: u64,
    token: Vec<u8>,
    /// What is observed: one place as text, or several.
    paths: Paths,
    format: Option<u16>,
    newest: (Offset, u32),
}

#[derive(Serialize, Deserialize)]
enum Paths {
    One(String),
    Several(Vec<String>),
}

impl core::fmt::Debug for Saved {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Saved").field("who", &self.who).finish_non_exhaustive()
    }
}

/// Why the session of a saved remote does not go on, or its registration if it had no session: its device has to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRestored {
    /// It is not admitted any more: its credential ended, or plain coap was closed for it.
    NotAdmitted,
    /// Nobody listens any more at the port where it came in.
    NotListening,
    /// It was saved more than a day ago: its device may be another one by now.
    TooOld,
    /// Its session cannot be read.
    Unreadable,
    /// There is no room for it, or its name or location is taken.
    NoRoom,
}

impl NotRestored {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::NotAdmitted, Self::NotListening, Self::TooOld, Self::Unreadable, Self::NoRoom];
}

impl core::fmt::Display for NotRestored {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotAdmitted => "it is not admitted any more",
            Self::NotListening => "nobody listens any more at the port where it came in",
            Self::TooOld => "it was saved more than a day ago",
            Self::Unreadable => "what was saved of it cannot be read",
            Self::NoRoom => "there is no room for it",
        })
    }
}

/// Saved longer ago, a remote does not go on.
const KEPT: Duration = Duration::from_secs(86_400);

/// How many sequence numbers are left out of every session for each millisecond since it was saved. No sender gets through
/// as many.
const SKIPPED_EACH_MILLISECOND: u64 = 64;

impl Saved {
    /// Who it is.
    #[must_use]
    pub const fn who(&self) -> &Who {
        &self.who
    }

    /// Where its datagrams come in; nothing for a registration without a session.
    pub(crate) fn local(&mut self) -> Option<&mut Listener> {
        self.association.as_mut().map(|remote| &mut remote.local)
    }

    /// The number of the part, of so many, that it goes on in.
    #[must_use]
    pub fn part(&self, of: u8) -> u8 {
        let session = self.association.as_ref().and_then(|remote| remote.session.as_ref());
        let shard = session.and_then(|session| session.shard).map(VirtualShard);
        let shard = shard.unwrap_or_else(|| VirtualShard::of(self.who.endpoint()));
        Part { index: 0, of }.owner(shard)
    }

    /// The address by which alone it is found, if it has no Connection ID.
    pub(crate) fn found_by(&self) -> Option<(Listener, Address)> {
        let remote = self.association.as_ref()?;
        let has_id = remote.session.as_ref().is_some_and(|session| session.shard.is_some());
        (!has_id).then_some((remote.local, remote.address))
    }

    /// The greatest number of its observations that do not last.
    pub(crate) fn last_observation(&self) -> u64 {
        let observations = self.registration.iter().flat_map(|registration| &registration.observations);
        observations
            .filter_map(|observed| observed.id.checked_sub(ObservationId::PASSING))
            .max()
            .unwrap_or_default()
    }
}

/// The clock of the run that saves.
#[derive(Clone, Copy)]
struct Stopped(Instant);

impl Stopped {
    fn offset(self, at: Instant) -> Offset {
        let milliseconds = |at: Instant| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        milliseconds(at).saturating_sub(milliseconds(self.0))
    }

    /// A time of the former run by the clock of this one, where `self` is when that stopped.
    fn time(self, offset: Offset) -> Instant {
        Instant::from_millis(self.0.as_millis().saturating_add_signed(offset))
    }
}

impl Endpoint {
    /// Ends the endpoint and gives away every registration and every settled remote, for the next run. Nothing may be sent in
    /// their names any more.
    pub fn save(self, now: Instant) -> impl Iterator<Item = Saved> {
        let Self { mut associations, registry, .. } = self;
        let stopped = Stopped(now);
        let mut registrations = registry.into_values();
        let mut others = None;
        core::iter::from_fn(move || {
            if let Some(registration) = registrations.next() {
                let association = registration.association.and_then(|key| associations.remove(key));
                let proven = association.as_ref().and_then(|association| association.who.clone());
                return Some(Saved {
                    who: proven.unwrap_or_else(|| registration.who()),
                    association: association.and_then(|association| stopped.save(association)),
                    registration: Some(Box::new(stopped.save_registration(&registration))),
                });
            }
            let others = others
                .get_or_insert_with(|| core::mem::replace(&mut associations, Slab::new()).into_values());
            others.find_map(|association| {
                // Without security there is nothing but the registration to go on with.
                let who = association.who.clone().filter(|who| who.proven().is_some())?;
                Some(Saved { who, association: Some(stopped.save(association)?), registration: None })
            })
        })
    }

    /// Goes on with a remote that was saved `age` ago, in the part that [`Saved::part`] names, or counts why it does not: it is for
    /// the caller to find whether it is `admitted`, and with which OSCORE context inside its session.
    pub fn restore(
        &mut self,
        now: Instant,
        saved: &Saved,
        age: Duration,
        admitted: Result<Option<Context>, NotRestored>,
        rng: &mut Rng<'_>,
    ) -> Result<(), NotRestored> {
        let restored = match admitted {
            _ if age > KEPT => Err(NotRestored::TooOld),
            admitted => admitted.and_then(|context| self.take_up(now, saved, age, context.as_ref(), rng)),
        };
        Counters::add(match restored {
            Ok(()) => &mut self.counters.restored,
            Err(why) => self.counters.not_restored(why),
        });
        restored
    }

    fn take_up(
        &mut self,
        now: Instant,
        saved: &Saved,
        age: Duration,
        context: Option<&Context>,
        rng: &mut Rng<'_>,
    ) -> Result<(), NotRestored> {
        let milliseconds = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let stopped = Stopped(Instant::from_millis(now.as_millis().saturating_sub(milliseconds)));
        let skip = milliseconds.saturating_add(1).saturating_mul(SKIPPED_EACH_MILLISECOND);
        let remote = saved.association.as_ref();
        let association = remote.map(|remote| self.restore_association(now, remote, stopped, skip, rng));
        let key = association.and_then(Result::ok);
        if let Some(key) = key {
            self.name(key, saved.who.clone());
            self.sort_by_age(saved.who.endpoint());
            self.mark_ready(key);
        }
        let registered = saved.registration.as_ref();
        let registered =
            registered.and_then(|registered| self.restore_registration(&saved.who, key, registered, stopped));
        if let Some(key) = key {
            self.set_registration(key, registered);
            if let Some(context) = context {
                self.put_context(key, context, rng).into_iter().for_each(|former| self.remove(former));
                self.end_observations(key, "the keys of its device are new");
            }
        }
        match association {
            // Its registration goes on all the same, in the next session.
            Some(Err(why)) => Err(why),
            None if registered.is_none() => Err(NotRestored::NoRoom),
            _ => Ok(()),
        }
    }

    /// Numbers the observations of this run behind the greatest number of the former one, which may have had other parts.
    pub(crate) fn number_observations_after(&mut self, last: u64) {
        self.next_observation =
            self.next_observation.max(last.div_ceil(self.part.of.into()).saturating_add(1));
    }

    fn restore_association(
        &mut self,
        now: Instant,
        remote: &Remote,
        stopped: Stopped,
        skip: u64,
        rng: &mut Rng<'_>,
    ) -> Result<Key, NotRestored> {
        let session = remote.session.as_ref();
        let session = session
            .map(|session| Connection::restore(&session.connection, skip).ok_or(NotRestored::Unreadable));
        let session = session.transpose()?;
        let id = session.as_ref().map(|session| session.own_connection_id().to_vec()).unwrap_or_default();
        let (local, address) = (remote.local, remote.address);
        let mut association = Association::new(now, local, address, session, rng);
        association.unproven =
            remote.unproven.map(|counted| Box::new(Unproven::with_counted(address, counted)));
        association.last_heard = stopped.time(remote.last_heard);
        association.kept_until = stopped.time(remote.kept_until);
        association.is_indexed = id.is_empty();
        let tokens = remote.token.map_or(TokenPolicy::Random, |next| TokenPolicy::Counter { next });
        association.coap = Peer::restored(&Parameters::DEFAULT, (MessageId(remote.message_id), tokens));
        for Answered { id, expiry, answer, is_silent } in &remote.answered {
            let reply = match answer {
                Some(answer) => Reply::Repeat(answer),
                None if *is_silent => Reply::Silence,
                None => Reply::Acknowledge,
            };
            let (id, expiry) = (MessageId(*id), stopped.time(*expiry));
            association.coap.remember(now, &Settled { id, expiry, reply });
        }
        let is_stranger = association.is_stranger();
        // Of two former addresses of the server with one port.
        if id.is_empty() && self.by_address.contains_key(&(local, address)) {
            return Err(NotRestored::NoRoom);
        }
        let key = self.associations.insert(association).ok_or(NotRestored::NoRoom)?;
        self.strangers = self.strangers.saturating_add(is_stranger.into());
        if id.is_empty() {
            self.by_address.insert((local, address), Candidates { newest: key, older: None });
        } else {
            let part = self.part;
            self.connection_ids.get_or_insert_with(|| ConnectionIds::new(part, rng)).keep(&id, key);
        }
        Ok(key)
    }

    fn restore_registration(
        &mut self,
        who: &Who,
        association: Option<Key>,
        registered: &Registered,
        stopped: Stopped,
    ) -> Option<Key> {
        let (major, minor) = registered.version;
        let registered_at = stopped.time(registered.registered_at);
        let (endpoint, slot) = (who.endpoint().clone(), registered.slot);
        self.registry.restore(registered_at, endpoint, association, slot, |registration| {
            registration.generation = who.generation();
            registration.lifetime = registered.lifetime;
            registration.version = Version::new(major, minor);
            registration.queue = registered.queue;
            registration.binding = Binding::parse(&registered.binding).unwrap_or(Binding::U);
            let objects = ObjectList::parse(registered.links.as_bytes()).unwrap_or_default();
            registration.objects = Arc::new(objects);
            registration.updated_at = stopped.time(registered.updated_at);
            let observations = registered.observations.iter();
            registration.observations =
                observations.filter_map(|observed| stopped.observation(observed)).collect();
        })
    }
}

impl Registration {
    fn who(&self) -> Who {
        let endpoint = self.endpoint.clone();
        match self.generation {
            Some(generation) => Who::Proven(Authenticated::new(endpoint, Role::Management, generation)),
            None => Who::Unsecured { role: Role::Management, endpoint },
        }
    }
}

impl Stopped {
    fn save(self, association: Association) -> Option<Remote> {
        let Association { local, address, unproven, session, admission, coap, oscore, .. } = association;
        // A context alone is found again by its keys, and has to prove that it is fresh; without them nothing is to go on.
        if admission.is_awaited() || (session.is_none() && oscore.is_some()) {
            return None;
        }
        let session = match session {
            Some(connection) => {
                let shard = connection.own_connection_id().first().copied();
                let mut bytes = Zeroizing::new(vec![0; SAVED_MAX]);
                let length = connection.save(&mut bytes)?;
                bytes.truncate(length);
                Some(Session { shard, connection: bytes })
            }
            None => None,
        };
        let (MessageId(message_id), tokens) = coap.numbers();
        let token = match tokens {
            TokenPolicy::Counter { next } => Some(next),
            TokenPolicy::Random => None,
        };
        let answered = coap.settled().map(|Settled { id: MessageId(id), expiry, reply }| {
            let answer = if let Reply::Repeat(bytes) = reply { Some(bytes.to_vec()) } else { None };
            Answered { id, expiry: self.offset(expiry), answer, is_silent: reply == Reply::Silence }
        });
        Some(Remote {
            local,
            address,
            unproven: unproven.filter(|unproven| unproven.address == address).map(|u| u.counted()),
            session,
            message_id,
            token,
            answered: answered.collect(),
            last_heard: self.offset(association.last_heard),
            kept_until: self.offset(association.kept_until),
        })
    }

    fn save_registration(self, registration: &Registration) -> Registered {
        let observed = |observation: &Observation| {
            let (at, sequence) = observation.newest.newest();
            Observed {
                id: observation.id.0,
                token: observation.token.bytes().to_vec(),
                paths: match &observation.what {
                    What::One(path) => Paths::One(path.to_string()),
                    What::Several(paths) => Paths::Several(paths.iter().map(ToString::to_string).collect()),
                },
                format: observation.wanted.format().map(|Format(number)| number),
                newest: (self.offset(at), sequence),
            }
        };
        Registered {
            lifetime: registration.lifetime,
            version: (registration.version.major, registration.version.minor),
            queue: registration.queue,
            binding: registration.binding.as_str().to_owned(),
            links: registration.objects.links.to_string(),
            registered_at: self.offset(registration.registered_at),
            updated_at: self.offset(registration.updated_at),
            slot: registration.slot(),
            observations: registration.observations.iter().map(observed).collect(),
        }
    }

    fn observation(self, observed: &Observed) -> Option<Observation> {
        let (at, sequence) = observed.newest;
        let what = match &observed.paths {
            Paths::One(path) => What::One(path.parse().ok()?),
            Paths::Several(paths) => {
                let paths: Result<_, _> = paths.iter().map(|path| path.parse()).collect();
                What::Several(Arc::new(paths.ok()?))
            }
        };
        Some(Observation {
            id: ObservationId(observed.id),
            token: Token::new(&observed.token)?,
            what,
            wanted: Wanted::new(observed.format.map(Format)),
            newest: Freshness::new(self.time(at), sequence),
        })
    }
}

/// The parts of remotes that are found by their address alone, for those that the kernel brings elsewhere.
pub(crate) type Restored = HashMap<(Listener, Address), u8>;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved {
            who: Who::Proven(Authenticated::new("a".into(), Role::Management, 300)),
            association: Some(Remote {
                local: Listener::Coaps,
                address: Address::from(std::net::SocketAddr::from(([192, 0, 2, 1], 0x1234))),
                unproven: Some((1, 2)),
                session: Some(Session { shard: Some(3), connection: Zeroizing::new(vec![4, 5]) }),
                message_id: 6,
                token: NonZeroU64::new(7),
                answered: vec![Answered { id: 8, expiry: 9, answer: Some(vec![10]), is_silent: true }],
                last_heard: -11,
                kept_until: 12,
            }),
            registration: Some(Box::new(Registered {
                lifetime: 13,
                version: (1, 2),
                queue: true,
                binding: "U".to_owned(),
                links: "</>".to_owned(),
                registered_at: -14,
                updated_at: -15,
                slot: 16,
                observations: vec![
                    Observed {
                        id: 17,
                        token: vec![18],
                        paths: Paths::One("/3".to_owned()),
                        format: Some(19),
                        newest: (-20, 21),
                    },
                    Observed {
                        id: 22,
                        token: vec![23],
                        paths: Paths::Several(vec!["/4".to_owned()]),
                        format: None,
                        newest: (24, 25),
                    },
                ],
            })),
        }
    }

    #[test]
    fn a_session_that_cannot_be_read_is_counted_and_its_registration_goes_on() {
        let mut endpoint = Endpoint::new(crate::endpoint::Config::default());
        let now = Instant::from_millis(1_000_000);
        let mut restore = |saved: &Saved| endpoint.restore(now, saved, Duration::ZERO, Ok(None), &mut |_| ());
        assert_eq!(restore(&Saved { registration: None, ..saved() }), Err(NotRestored::Unreadable));
        assert_eq!(restore(&saved()), Err(NotRestored::Unreadable));
        assert_eq!((endpoint.counters().not_restored_unreadable, endpoint.counters().restored), (2, 0));
        assert_eq!(endpoint.devices().len(), 1);
    }

    #[test]
    fn another_layout_needs_another_magic_number() {
        let layout = "000161 01 ac02 00 01 01 00000000000000000000ffffc00002011234 01 0102 01 0103 020405 06 0107 01 08 12 01010a \
                      01 15 18 01 0d 0102 01 0155 033c2f3e 1b 1d 10 02 11 0112 00 022f33 0113 27 15 16 0117 01 01 022f34 00 30 19";
        let written = hex::encode(postcard::to_stdvec(&saved()).unwrap());
        assert_eq!(
            written,
            layout.split_whitespace().collect::<String>(),
            "raise MAGIC in store/sessions.rs"
        );
    }
}
