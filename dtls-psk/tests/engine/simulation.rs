//! Two parties over a link that loses, repeats, delays and reorders datagrams, in virtual time.

use crate::support::*;
use dtls_psk::{Config, Instant, Psk, Reason, Suites};

/// Datagrams under way, each with the time of its arrival.
struct Link {
    random: Random,
    /// In percent.
    loss: u64,
    duplication: u64,
    /// The longest delay in milliseconds; different delays reorder.
    delay: u64,
    under_way: Vec<(Instant, bool, Vec<u8>)>,
}

impl Link {
    fn send(&mut self, now: Instant, from_client: bool, datagrams: Vec<Vec<u8>>) {
        for datagram in datagrams {
            let copies = if self.random.below(100) < self.loss {
                0
            } else {
                1 + usize::from(self.random.below(100) < self.duplication)
            };
            for _ in 0..copies {
                let arrival = at(now.as_millis() + 1 + self.random.below(self.delay));
                self.under_way.push((arrival, from_client, datagram.clone()));
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        self.under_way.iter().map(|(arrival, ..)| *arrival).min()
    }

    fn arrive(&mut self, now: Instant) -> Option<(bool, Vec<u8>)> {
        let index = self.under_way.iter().position(|(arrival, ..)| *arrival <= now)?;
        let (_, from_client, datagram) = self.under_way.swap_remove(index);
        Some((from_client, datagram))
    }
}

struct Outcome {
    attempts: u32,
    finished: Instant,
    received_by_server: Vec<u8>,
    received_by_client: Vec<u8>,
}

/// A client, and a server that may know a session of it.
trait Parties {
    fn client(&self, now: Instant, seed: u64) -> Client;
    fn server(&self, seed: u64) -> Server;
}

struct Full;

impl Parties for Full {
    fn client(&self, now: Instant, seed: u64) -> Client {
        let mut random = Random(seed);
        let mut rng = |bytes: &mut [u8]| random.fill(bytes);
        let psk = Psk { identity: IDENTITY, key: KEY };
        // The suites take turns.
        let suites = Suites::PSK;
        let suite = suites.as_slice()[seed as usize % suites.as_slice().len()];
        let config = Config::DEFAULT.with_suites(Suites::new(&[suite]).unwrap());
        Client::client(now, &config, psk, &mut rng, dtls_psk::Handshake::new()).unwrap()
    }

    fn server(&self, seed: u64) -> Server {
        Server { config: Config::DEFAULT.with_suites(Suites::PSK), ..Server::new(seed) }
    }
}

/// Runs handshakes until one succeeds, then sends 20 numbered messages each way.
fn run(parties: &impl Parties, seed: u64, loss: u64) -> Outcome {
    let mut random = Random(seed);
    let mut link = Link {
        loss,
        duplication: random.below(20),
        delay: 1 + random.below(1500),
        random: Random(seed ^ 0x5555),
        under_way: Vec::new(),
    };
    // The ClientHello must come in one piece, the rest in pieces of any size.
    let client_mtu = 110 + random.below(300) as usize;
    let mut server = parties.server(seed);
    server.mtu = 64 + random.below(300) as usize;
    server.answers_at_once = !seed.is_multiple_of(3);
    let mut client = parties.client(at(0), seed);
    let mut outcome =
        Outcome { attempts: 1, finished: at(0), received_by_server: vec![], received_by_client: vec![] };
    let (mut client_ready, mut server_ready, mut messages) = (false, false, 0_u8);
    let mut now = at(0);
    loop {
        link.send(now, true, transmit(&mut client, now, client_mtu));
        if client_ready && server_ready && messages < 20 {
            messages += 1;
            link.send(now, true, vec![seal(&mut client, &[messages])]);
            link.send(now, false, vec![seal(server.peer(), &[messages])]);
        }
        let times = [link.next(), client.poll_timeout(), server.poll_timeout()];
        let Some(next) = times.into_iter().flatten().min() else { break };
        assert!(next >= now || link.under_way.is_empty(), "time does not run backwards");
        now = next.max(now);
        assert!(now < at(3_600_000), "seed {seed}: an hour is enough for anything");

        let mut client_events = Vec::new();
        let mut server_events = Vec::new();
        while let Some((from_client, datagram)) = link.arrive(now) {
            if from_client {
                let (events, answers) = server.handle(now, &datagram);
                server_events.extend(events);
                link.send(now, false, answers);
            } else {
                client_events.extend(receive(&mut client, now, &datagram));
                link.send(now, true, transmit(&mut client, now, client_mtu));
            }
        }
        #[cfg(feature = "ecdhe")]
        if let Some(index) = server.peers.iter().position(|peer| !peer.is_established())
            && let Some((_, event)) = server.compute(now, index)
        {
            server_events.extend(event);
            server_events.extend(server.answer(now, index));
        }
        if let Some((id, identity)) = server.asked.pop() {
            // Late, and perhaps of a handshake that is over.
            let asking = server.peers.iter_mut().find(|peer| !peer.is_established());
            server_events.extend(asking.and_then(|peer| {
                let answer = dtls_psk::Answer::Psk { key: KEY };
                assert_eq!(identity, IDENTITY);
                peer.provide(now, id, answer).ok().flatten().map(Event::of)
            }));
        }
        if server_events.contains(&Event::Established) {
            // Also one by a late answer replaces those before it.
            server.peers.truncate(1);
        }
        client_events.extend(client.handle_timeout(now).map(Event::of));
        let (events, answers) = server.handle_timeout(now);
        server_events.extend(events);
        link.send(now, false, answers);

        for event in server_events {
            match event {
                Event::Established | Event::Resumed => server_ready = true,
                Event::Application(bytes) => outcome.received_by_server.extend(bytes),
                Event::PathResponse(_) => unreachable!("nobody challenges"),
                Event::Closed(reason) => {
                    assert!(matches!(reason, Reason::Stalled | Reason::LookUpUnanswered), "{seed}: {reason}");
                    // Who sent the last flight learns only from what comes later that it was lost.
                    if client_ready && !server_ready {
                        client_ready = false;
                        outcome.attempts += 1;
                        client = parties.client(now, seed + u64::from(outcome.attempts) * 1_000_003);
                    }
                }
            }
        }
        for event in client_events {
            match event {
                Event::Established | Event::Resumed => {
                    client_ready = true;
                    outcome.finished = now;
                }
                Event::Application(bytes) => outcome.received_by_client.extend(bytes),
                Event::PathResponse(_) => unreachable!("nobody challenges"),
                Event::Closed(_) => {
                    outcome.attempts += 1;
                    server_ready = false;
                    client = parties.client(now, seed + u64::from(outcome.attempts) * 1_000_003);
                }
            }
        }
    }
    assert!(client_ready && server_ready, "seed {seed}: both are established");
    assert!(client.is_established() && server.peer().is_established());
    assert!(server.peers.len() <= 2);
    outcome
}

fn assert_each_at_most_once(seed: u64, mut received: Vec<u8>) {
    let count = received.len();
    received.sort_unstable();
    received.dedup();
    assert_eq!(received.len(), count, "seed {seed}: nothing is delivered twice");
    assert!(received.iter().all(|number| (1..=20).contains(number)));
}

#[test]
fn a_thousand_handshakes_over_bad_links_succeed() {
    let mut attempts = 0;
    for seed in 0..1000 {
        let outcome = run(&Full, seed, seed % 40);
        attempts += outcome.attempts;
        assert_each_at_most_once(seed, outcome.received_by_server);
        assert_each_at_most_once(seed, outcome.received_by_client);
    }
    assert!(attempts < 1100, "{attempts} attempts for 1000 handshakes");
}

#[cfg(feature = "resumption")]
impl Parties for dtls_psk::Session {
    fn client(&self, now: Instant, seed: u64) -> Client {
        crate::resumption::client_with_session(now, Some(self), seed)
    }

    fn server(&self, seed: u64) -> Server {
        let mut server = Server::new(seed);
        server.sessions = Some(vec![self.clone()]);
        server
    }
}

#[cfg(feature = "resumption")]
#[test]
fn a_thousand_sessions_are_taken_up_over_bad_links() {
    let (_, session) = crate::resumption::with_session();
    let mut attempts = 0;
    for seed in 0..1000 {
        let outcome = run(&session, seed, seed % 40);
        attempts += outcome.attempts;
        assert_each_at_most_once(seed, outcome.received_by_server);
        assert_each_at_most_once(seed, outcome.received_by_client);
    }
    assert!(attempts < 1100, "{attempts} attempts for 1000 handshakes");
}

#[test]
fn a_perfect_link_needs_no_retransmission() {
    for seed in 0..50 {
        let mut client = client_with(&Config::DEFAULT, Psk { identity: IDENTITY, key: KEY }, seed);
        let mut server = Server::new(seed);
        let talk = talk(&mut client, &mut server);
        assert_eq!((talk.from_client.len(), talk.from_server.len()), (3, 3));
        let record = seal(&mut client, b"x");
        assert_eq!(server.handle(at(1), &record).0, [Event::Application(b"x".to_vec())]);
        assert!(server.poll_timeout().is_none(), "application data frees the last flight");
    }
}
