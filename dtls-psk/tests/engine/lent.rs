//! Memory that a device has once and lends for each call.

use crate::support::*;
use dtls_psk::{Config, Connection, Handshake, NoHandshake, SetUpError};

type Memory = Handshake<512>;

/// A client whose memory lies elsewhere.
struct Lent {
    connection: Option<Connection<512, NoHandshake>>,
    needs_memory: bool,
}

impl Lent {
    fn new(memory: &mut Memory, seed: u64) -> Self {
        let mut random = Random(seed);
        let rng = &mut |bytes: &mut [u8]| random.fill(bytes);
        let connection = Connection::prepared_client(at(0), &Config::DEFAULT, rng, memory).unwrap();
        let (connection, memory) = connection.detach();
        Self { connection: Some(connection), needs_memory: memory.is_some() }
    }

    fn call<R>(
        &mut self,
        memory: &mut Memory,
        call: impl FnOnce(&mut Connection<512, &mut Memory>) -> R,
    ) -> R {
        let connection = self.connection.take().unwrap();
        let mut connection = connection.attach(self.needs_memory.then_some(memory));
        let result = call(&mut connection);
        let (connection, memory) = connection.detach();
        (self.connection, self.needs_memory) = (Some(connection), memory.is_some());
        result
    }

    /// Talks to a server for so many turns.
    fn talk(&mut self, memory: &mut Memory, server: &mut Server, turns: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..turns {
            for datagram in self.call(memory, |connection| transmit(connection, at(0), 1200)) {
                for answer in server.handle(at(0), &datagram).1 {
                    events.extend(self.call(memory, |connection| receive(connection, at(0), &answer)));
                }
            }
        }
        events
    }
}

fn prepare(memory: &mut Memory, key: &[u8]) {
    memory.wipe();
    memory.set_identity(IDENTITY).unwrap();
    memory.set_key(key).unwrap();
}

#[test]
fn memory_that_is_lent_serves_one_handshake_after_the_other() {
    let mut memory = Memory::new();
    for (key, turns, expected) in [
        // Abandoned where the cookie came, and where the server answered.
        (KEY, 1, vec![]),
        (KEY, 2, vec![]),
        (KEY, 4, vec![Event::Established]),
        (&[1; 16], 4, vec![]),
        (KEY, 4, vec![Event::Established]),
    ] {
        let mut server = Server::new(2);
        prepare(&mut memory, key);
        let mut client = Lent::new(&mut memory, 1);
        assert_eq!(client.talk(&mut memory, &mut server, turns), expected, "{turns}");
        assert_eq!(client.needs_memory, expected.is_empty());
        if client.needs_memory {
            continue;
        }
        let record = seal(client.connection.as_mut().unwrap(), b"up");
        assert_eq!(server.handle(at(1), &record).0, [Event::Application(b"up".to_vec())]);
    }
}

#[test]
fn a_connection_without_its_memory_does_nothing() {
    let mut memory = Memory::new();
    prepare(&mut memory, KEY);
    let mut client = Lent::new(&mut memory, 1);
    let connection = client.connection.as_mut().unwrap();
    assert_eq!(transmit(connection, at(0), 1200), Vec::<Vec<u8>>::new());
    assert_eq!((connection.poll_timeout(), connection.is_established()), (None, false));
    assert_eq!(client.talk(&mut memory, &mut Server::new(2), 4), [Event::Established]);
}

#[test]
fn memory_is_prepared_with_what_fits() {
    let mut memory = Memory::new();
    assert_eq!(memory.set_identity(&[0; 129]), Err(SetUpError::IdentityTooLong));
    assert_eq!(memory.set_key(&[]), Err(SetUpError::KeyLength));
    assert_eq!(memory.set_key(&[0; 65]), Err(SetUpError::KeyLength));
    assert_eq!((memory.set_identity(&[0; 128]), memory.set_key(&[0; 64])), (Ok(()), Ok(())));
}
