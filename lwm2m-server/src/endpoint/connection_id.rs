//! The Connection IDs that this server gives out (RFC 9146): by them a session is found whatever address a record came from.
//!
//! Six bytes: the virtual shard, by which any thread or the kernel sees whose it is, and 40 encrypted bits: slot (24),
//! generation (12) and node (4, always 0 so far). In the clear, slots and generations would make devices recognizable from
//! one session to the next.

use std::collections::HashMap;

use aes::Aes128;
use aes::cipher::{BlockEncrypt, KeyInit};
use dtls_psk::ConnectionId;
use lwm2m_coap::Rng;

use super::shard::Part;
use super::slab::Key;

/// The length of every Connection ID of this server, in bytes.
pub(crate) const LENGTH: usize = 6;

/// How many bits of a slot's generation are in it: an id of an earlier use of the slot that has the same ones finds a
/// session with other keys, and opens nothing there.
const GENERATION_BITS: u32 = 12;
const NODE_BITS: u32 = 4;
const HALF_BITS: u32 = 20;
const HALF: u32 = (1 << HALF_BITS) - 1;
const ROUNDS: u8 = 4;

/// Makes and reads them. Their key lives as long as the server runs.
pub(crate) struct ConnectionIds {
    part: Part,
    cipher: Aes128,
    /// Those that a former run gave out, under another key, while their sessions live.
    former: HashMap<[u8; LENGTH], Key>,
}

impl ConnectionIds {
    pub(crate) fn new(part: Part, rng: &mut Rng<'_>) -> Self {
        let mut key = [0; 16];
        rng(&mut key);
        Self { part, cipher: Aes128::new(&key.into()), former: HashMap::new() }
    }

    /// Keeps an id that a former run gave out.
    pub(crate) fn keep(&mut self, id: &[u8], key: Key) {
        if let Ok(id) = id.try_into() {
            self.former.insert(id, key);
        }
    }

    /// What a former run gave an id out for.
    pub(crate) fn kept(&self, id: &[u8]) -> Option<Key> {
        if self.former.is_empty() { None } else { self.former.get(id).copied() }
    }

    /// Forgets an id that a former run gave out for `key`.
    pub(crate) fn forget(&mut self, id: &[u8], key: Key) {
        if self.kept(id) == Some(key) {
            self.former.remove(id);
        }
    }

    /// The id of what is kept at `key`; `None` for one of the slots beyond 2²⁴, and when a former run gave the same one out.
    pub(crate) fn emit(&self, key: Key) -> Option<ConnectionId> {
        if key.slot >> 24 != 0 {
            return None;
        }
        let generation = u64::from(key.generation.get() & ((1 << GENERATION_BITS) - 1));
        let number = (u64::from(key.slot) << (GENERATION_BITS + NODE_BITS)) | (generation << NODE_BITS);
        let [.., a, b, c, d, e] = self.encrypt(number).to_be_bytes();
        let id = [self.part.shard(key.slot).0, a, b, c, d, e];
        ConnectionId::new(&id).filter(|id| self.kept(id.bytes()).is_none())
    }

    /// The slot that an id names, and the low bits of its generation; `None` for what this server did not give out.
    pub(crate) fn parse(&self, id: &[u8]) -> Option<(u32, u32)> {
        let &[shard, a, b, c, d, e] = id else { return None };
        let number = self.decrypt(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]));
        let slot = (number >> (GENERATION_BITS + NODE_BITS)) as u32;
        let generation = (number >> NODE_BITS) as u32 & ((1 << GENERATION_BITS) - 1);
        let is_ours = shard == self.part.shard(slot).0 && number & ((1 << NODE_BITS) - 1) == 0;
        is_ours.then_some((slot, generation))
    }

    /// Whether the generation of a key has these low bits.
    pub(crate) const fn is_of(key: Key, generation: u32) -> bool {
        key.generation.get() & ((1 << GENERATION_BITS) - 1) == generation
    }

    /// A Feistel network over two halves of 20 bits.
    fn encrypt(&self, number: u64) -> u64 {
        let (mut left, mut right) = halves(number);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        join(left, right)
    }

    fn decrypt(&self, number: u64) -> u64 {
        let (mut left, mut right) = halves(number);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        join(left, right)
    }

    fn round(&self, round: u8, half: u32) -> u32 {
        let [a, b, c, d] = half.to_be_bytes();
        let mut block = [round, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        self.cipher.encrypt_block((&mut block).into());
        let [a, b, c, d, ..] = block;
        u32::from_be_bytes([a, b, c, d]) & HALF
    }
}

const fn halves(number: u64) -> (u32, u32) {
    ((number >> HALF_BITS) as u32 & HALF, number as u32 & HALF)
}

const fn join(left: u32, right: u32) -> u64 {
    ((left as u64) << HALF_BITS) | right as u64
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    fn ids(seed: u8) -> ConnectionIds {
        ConnectionIds::new(Part { index: 7, of: 128 }, &mut |bytes| bytes.fill(seed))
    }

    fn key(slot: u32, generation: u32) -> Key {
        Key { slot, generation: generation.try_into().unwrap() }
    }

    #[test]
    fn an_id_has_six_bytes_and_finds_its_slot() {
        let ids = ids(1);
        for (slot, generation) in [(0, 1), (1, 4095), (0x00ff_ffff, 4096), (70_000, u32::MAX)] {
            let key = key(slot, generation);
            let id = ids.emit(key).unwrap();
            assert_eq!(id.bytes().len(), LENGTH);
            assert!([7, 135].contains(id.bytes().first().unwrap()), "a virtual shard of this part");
            let (found, low) = ids.parse(id.bytes()).unwrap();
            assert_eq!(found, slot);
            assert!(ConnectionIds::is_of(key, low));
        }
        assert_eq!(ids.emit(key(1 << 24, 1)), None);
    }

    #[test]
    fn what_was_not_given_out_is_hardly_ever_taken() {
        let (ids, others) = (ids(1), ids(2));
        let taken = (0..4096).filter(|slot| {
            let id = others.emit(key(*slot, 1)).unwrap();
            ids.parse(id.bytes()).is_some()
        });
        assert!((128..512).contains(&taken.count()), "one in sixteen has the node bits of this one");
        let id = ids.emit(key(5, 1)).unwrap();
        let mut other_shard: [u8; LENGTH] = id.bytes().try_into().unwrap();
        other_shard[0] ^= 1;
        assert_eq!(ids.parse(&other_shard), None);
        assert_eq!(ids.parse(id.bytes().split_last().unwrap().1), None);
    }

    #[test]
    fn the_ids_of_neighbours_have_nothing_in_common_to_see() {
        let ids = ids(1);
        let differing = |slot: u32| {
            let pair = [slot, slot + 1].map(|slot| ids.emit(key(slot, 1)).unwrap());
            let [one, other] =
                pair.map(|id| u64::from_be_bytes([&[0, 0], id.bytes()].concat().try_into().unwrap()));
            (one ^ other).count_ones()
        };
        let total: u32 = (0..1000).map(differing).sum();
        assert!((18_000..22_000).contains(&total), "{total} of 40,000 bits differ");
    }
}
