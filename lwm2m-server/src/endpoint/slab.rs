//! Slots with generations: a key of something that is gone finds nothing, even when its slot is used again.

use std::num::NonZeroU32;

/// Names a value in a [`Slab`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: Generation,
}

/// How often a slot was used, from 1 on. It wraps after 2³² uses: nothing outlives that. Never 0, so that an optional
/// [`Key`] takes no more room than a key.
pub(crate) type Generation = NonZeroU32;

/// Values in slots. It grows by whole chunks, so that a million of them never need to move and no capacity beyond one
/// chunk is wasted.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Entry<T>>>,
    free: Vec<u32>,
    used: usize,
}

#[derive(Debug)]
struct Entry<T> {
    generation: Generation,
    value: Option<T>,
}

const CHUNK: usize = 256;

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), used: 0 }
    }

    /// Keeps a value; `None` when 2³² slots are in use.
    pub(crate) fn insert(&mut self, value: T) -> Option<Key> {
        let key = if let Some(slot) = self.free.pop() {
            let entry = self.entry_mut(slot)?;
            entry.generation = after(entry.generation);
            entry.value = Some(value);
            Key { slot, generation: entry.generation }
        } else {
            let slot = u32::try_from(self.used).ok()?;
            if self.chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            self.chunks.last_mut()?.push(Entry { generation: Generation::MIN, value: Some(value) });
            Key { slot, generation: Generation::MIN }
        };
        self.used = self.used.saturating_add(1);
        Some(key)
    }

    /// The key that the next value will get.
    pub(crate) fn next_key(&self) -> Option<Key> {
        let Some(slot) = self.free.last() else {
            return Some(Key { slot: u32::try_from(self.used).ok()?, generation: Generation::MIN });
        };
        Some(Key { slot: *slot, generation: after(self.entry(*slot)?.generation) })
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entry_mut(key.slot)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        self.used = self.used.saturating_sub(1);
        self.free.push(key.slot);
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entry_mut(key.slot)?;
        if entry.generation == key.generation { entry.value.as_mut() } else { None }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entry(key.slot)?;
        if entry.generation == key.generation { entry.value.as_ref() } else { None }
    }

    /// The value in a slot, whatever its generation.
    pub(crate) fn at(&self, slot: u32) -> Option<(Key, &T)> {
        let entry = self.entry(slot)?;
        Some((Key { slot, generation: entry.generation }, entry.value.as_ref()?))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().filter_map(|entry| entry.value.as_ref())
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.chunks.into_iter().flatten().filter_map(|entry| entry.value)
    }

    pub(crate) const fn len(&self) -> usize {
        self.used
    }

    fn entry(&self, slot: u32) -> Option<&Entry<T>> {
        let slot = usize::try_from(slot).ok()?;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        let slot = usize::try_from(slot).ok()?;
        self.chunks.get_mut(slot / CHUNK)?.get_mut(slot % CHUNK)
    }
}

fn after(generation: Generation) -> Generation {
    generation.checked_add(1).unwrap_or(Generation::MIN)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing_in_a_slot_used_again() {
        let mut slab = Slab::new();
        let old = slab.insert("a").unwrap();
        assert_eq!(slab.remove(old), Some("a"));
        let next = slab.next_key();
        let new = slab.insert("b").unwrap();
        assert_eq!(next, Some(new));
        assert_eq!(new.slot, old.slot);
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get_mut(new), Some(&mut "b"));
        assert_eq!(slab.at(new.slot), Some((new, &"b")));
        assert_eq!(size_of::<Option<Key>>(), size_of::<Key>());
    }

    #[test]
    fn it_grows_over_many_chunks() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..1000_u32)
            .map(|n| (slab.next_key(), slab.insert(n)))
            .map(|(next, key)| {
                assert_eq!(next, key);
                key.unwrap()
            })
            .collect();
        assert!(keys.iter().zip(0..).all(|(key, n)| slab.get(*key) == Some(&n)));
        assert_eq!(slab.len(), 1000);
        assert_eq!(slab.iter().count(), 1000);
    }
}
