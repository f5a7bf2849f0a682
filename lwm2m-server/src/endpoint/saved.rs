//! A planned restart: every remote that is settled is saved when the server stops, and goes on in the next run, with its
//! DTLS session, its registration and its observations.
//!
//! 1. [`Endpoint::save`]: remotes whose handshake or admission is not over, and requests under way, are not saved; their
//!    callers hear that the server stopped.
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

use crate::server::ObservationId;

use super::association::{Admission, Association, Who};
use super::connection_id::ConnectionIds;
use super::location::VirtualShard;
use super::observation::Observation;
use super::path::Unproven;
use super::registry::{Binding, ObjectList, Registration};
use super::session::Connection;
use super::shard::Part;
use super::slab::Key;
use super::{Address, Candidates, Endpoint, Listener};

/// A remote at rest, with the keys of its session in the clear: to be sealed before it is written anywhere.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    local: Listener,
    address: Address,
    /// Whether the address was proven.
    is_proven: bool,
    who: Who,
    session: Option<Session>,
    message_id: u16,
    /// The next token over DTLS.
    token: Option<NonZeroU64>,
    answered: Vec<Answered>,
    /// In milliseconds since 1970, as all times here.
    last_heard: u64,
    kept_until: u64,
    registration: Option<Box<Registered>>,
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
    expiry: u64,
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
    registered_at: u64,
    updated_at: u64,
    /// The slot of its location.
    slot: u32,
    observations: Vec<Observed>,
}

#[derive(Serialize, Deserialize)]
struct Observed {
    id: u64,
    token: Vec<u8>,
    path: String,
    format: Option<u16>,
    newest: (u64, u32),
}

impl core::fmt::Debug for Saved {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Saved").field("local", &self.local).field("who", &self.who).finish_non_exhaustive()
    }
}

/// How many sequence numbers are left out of every session for each millisecond since it was saved. No sender gets through
/// as many.
const SKIPPED_EACH_MILLISECOND: u64 = 64;

impl Saved {
    /// Who it is.
    #[must_use]
    pub const fn who(&self) -> &Who {
        &self.who
    }

    /// The number of the part, of so many, that it goes on in.
    #[must_use]
    pub fn part(&self, of: u8) -> u8 {
        let shard = self.session.as_ref().and_then(|session| session.shard).map(VirtualShard);
        let shard = shard.unwrap_or_else(|| VirtualShard::of(self.who.endpoint()));
        Part { index: 0, of }.owner(shard)
    }

    /// The address by which alone it is found, if it has no Connection ID.
    pub(crate) fn found_by(&self) -> Option<(Listener, Address)> {
        let has_id = self.session.as_ref().is_some_and(|session| session.shard.is_some());
        (!has_id).then_some((self.local, self.address))
    }
}

impl Endpoint {
    /// Ends the endpoint and gives away every settled remote, for the next run. Nothing may be sent in its name any more.
    pub fn save(self) -> impl Iterator<Item = Saved> {
        let Self { associations, registry, .. } = self;
        associations.into_values().filter_map(move |association| {
            let registration = association.registration.and_then(|key| registry.get(key));
            save(association, registration)
        })
    }

    /// Goes on with a remote that was saved `age` ago, in the part that [`Saved::part`] names. Whether it may still come in is
    /// for the caller to ask. `false` when it cannot be, and then its device begins anew.
    pub fn restore(&mut self, now: Instant, saved: Saved, age: Duration, rng: &mut Rng<'_>) -> bool {
        let Saved { local, address, who, session, registration, .. } = &saved;
        let mut restored = None;
        if let Some(Session { connection, .. }) = session {
            let milliseconds = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
            let skip = milliseconds.saturating_mul(SKIPPED_EACH_MILLISECOND);
            let Some(connection) = Connection::restore(connection, skip) else { return false };
            restored = Some(connection);
        }
        let id = restored.as_ref().map(|session| session.own_connection_id().to_vec()).unwrap_or_default();
        let mut association = Association::new(now, *local, *address, restored, rng);
        association.unproven = (!saved.is_proven).then(|| Box::new(Unproven::new(*address)));
        association.last_heard = Instant::from_millis(saved.last_heard);
        association.kept_until = Instant::from_millis(saved.kept_until);
        association.is_indexed = id.is_empty();
        let tokens = saved.token.map_or(TokenPolicy::Random, |next| TokenPolicy::Counter { next });
        association.coap = Peer::restored(&Parameters::DEFAULT, (MessageId(saved.message_id), tokens));
        for Answered { id, expiry, answer, is_silent } in &saved.answered {
            let reply = match answer {
                Some(answer) => Reply::Repeat(answer),
                None if *is_silent => Reply::Silence,
                None => Reply::Acknowledge,
            };
            let (id, expiry) = (MessageId(*id), Instant::from_millis(*expiry));
            association.coap.remember(now, &Settled { id, expiry, reply });
        }
        let Some(key) = self.associations.insert(association) else { return false };
        if id.is_empty() {
            self.by_address.insert((*local, *address), Candidates { newest: key, older: None });
        } else {
            let part = self.part;
            self.connection_ids.get_or_insert_with(|| ConnectionIds::new(part, rng)).keep(&id, key);
        }
        self.name(key, who.clone());
        if let Some(registered) = registration {
            self.restore_registration(now, key, who, registered);
        }
        self.mark_ready(key);
        true
    }

    fn restore_registration(&mut self, now: Instant, key: Key, who: &Who, registered: &Registered) {
        let observations: Vec<Observation> = registered.observations.iter().filter_map(observation).collect();
        let newest = observations.iter().map(|observation| observation.id.0).max().unwrap_or_default();
        // The numbers of this run begin behind those of the former one, which may have had other parts.
        self.next_observation =
            self.next_observation.max(newest.div_ceil(self.part.of.into()).saturating_add(1));
        let (major, minor) = registered.version;
        let restored =
            self.registry.restore(now, who.endpoint().clone(), key, registered.slot, |registration| {
                registration.generation = who.generation();
                registration.lifetime = registered.lifetime;
                registration.version = Version::new(major, minor);
                registration.queue = registered.queue;
                registration.binding = Binding::parse(&registered.binding).unwrap_or(Binding::U);
                let objects = ObjectList::parse(registered.links.as_bytes()).unwrap_or_default();
                registration.objects = Arc::new(objects);
                registration.registered_at = Instant::from_millis(registered.registered_at);
                registration.updated_at = Instant::from_millis(registered.updated_at);
                registration.observations = observations;
            });
        if let Some(association) = self.associations.get_mut(key) {
            association.registration = restored;
        }
    }
}

fn save(association: Association, registration: Option<&Registration>) -> Option<Saved> {
    let Association { local, address, session, admission, who, coap, last_heard, kept_until, .. } =
        association;
    let who = who.filter(|_| admission == Admission::Settled)?;
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
        Answered { id, expiry: expiry.as_millis(), answer, is_silent: reply == Reply::Silence }
    });
    let is_proven = association.unproven.is_none_or(|unproven| unproven.address != address);
    Some(Saved {
        local,
        address,
        is_proven,
        who,
        session,
        message_id,
        token,
        answered: answered.collect(),
        last_heard: last_heard.as_millis(),
        kept_until: kept_until.as_millis(),
        registration: registration.map(|registration| Box::new(registered(registration))),
    })
}

fn registered(registration: &Registration) -> Registered {
    let observed = |observation: &Observation| {
        let (at, sequence) = observation.newest.newest();
        Observed {
            id: observation.id.0,
            token: observation.token.bytes().to_vec(),
            path: observation.path.to_string(),
            format: observation.format.map(|Format(number)| number),
            newest: (at.as_millis(), sequence),
        }
    };
    Registered {
        lifetime: registration.lifetime,
        version: (registration.version.major, registration.version.minor),
        queue: registration.queue,
        binding: registration.binding.as_str().to_owned(),
        links: registration.objects.links.to_string(),
        registered_at: registration.registered_at.as_millis(),
        updated_at: registration.updated_at.as_millis(),
        slot: registration.slot(),
        observations: registration.observations.iter().map(observed).collect(),
    }
}

fn observation(observed: &Observed) -> Option<Observation> {
    let (at, sequence) = observed.newest;
    Some(Observation {
        id: ObservationId(observed.id),
        token: Token::new(&observed.token)?,
        path: observed.path.parse().ok()?,
        format: observed.format.map(Format),
        newest: Freshness::new(Instant::from_millis(at), sequence),
    })
}

/// The parts of remotes that are found by their address alone, for those that the kernel brings elsewhere.
pub(crate) type Restored = HashMap<(Listener, Address), u8>;
