//! The name of a registration on the wire, `/rd/<id>` (LwM2M Core 1.2.1 §6.2.1): virtual shard and slot, so that any
//! thread, later any node, sees from the location who owns the device.
//!
//! Four characters hold 65,536 slots of each of the 256 virtual shards; larger slots take more. A location is no secret
//! and proves nothing: an Update must also come from who registered.

/// One of the 256 parts the devices are divided into; a part is owned by one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualShard(pub u8);

impl VirtualShard {
    /// The virtual shard of an endpoint name: the same on every node and after every restart (FNV-1a, folded).
    #[must_use]
    pub fn of(endpoint: &str) -> Self {
        Self::of_bytes(endpoint.as_bytes())
    }

    /// The same of a name that is no text: the kid of a device under OSCORE.
    pub(crate) fn of_bytes(name: &[u8]) -> Self {
        let hash = name
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        Self(hash.to_le_bytes().into_iter().fold(0, |folded, byte| folded ^ byte))
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Virtual shard and slot of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) shard: VirtualShard,
    pub(crate) slot: u32,
}

impl Location {
    /// The `<id>` of `/rd/<id>`: base64url of the number `slot << 8 | shard`, four characters at least.
    pub(crate) fn emit(self) -> String {
        let mut number = (u64::from(self.slot) << 8) | u64::from(self.shard.0);
        let mut text = String::with_capacity(4);
        while text.len() < 4 || number > 0 {
            let digit = usize::try_from(number & 0x3f).unwrap_or(0);
            text.push(char::from(ALPHABET.get(digit).copied().unwrap_or(b'A')));
            number >>= 6;
        }
        text
    }

    pub(crate) fn parse(id: &[u8]) -> Option<Self> {
        if !(4..=7).contains(&id.len()) {
            return None;
        }
        let number = id.iter().rev().try_fold(0_u64, |number, byte| {
            let digit = ALPHABET.iter().position(|letter| letter == byte)?;
            Some((number << 6) | u64::try_from(digit).ok()?)
        })?;
        let location =
            Self { shard: VirtualShard((number & 0xff) as u8), slot: u32::try_from(number >> 8).ok()? };
        // One name for one registration: a longer form of a short number is not it.
        (location.emit().as_bytes() == id).then_some(location)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_four_characters_and_comes_back() {
        for (shard, slot, length) in [(0, 0, 4), (255, 65_535, 4), (7, 65_536, 5), (255, u32::MAX, 7)] {
            let location = Location { shard: VirtualShard(shard), slot };
            let text = location.emit();
            assert_eq!(text.len(), length, "{text}");
            assert_eq!(Location::parse(text.as_bytes()), Some(location));
        }
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for id in [&b""[..], b"AAA", b"AAA!", b"AAAAA", b"________", b"_______"] {
            assert_eq!(Location::parse(id), None, "{id:?}");
        }
    }

    #[test]
    fn names_spread_over_all_virtual_shards() {
        let mut seen = [false; 256];
        for n in 0..4000 {
            if let Some(shard) = seen.get_mut(usize::from(VirtualShard::of(&format!("device-{n}")).0)) {
                *shard = true;
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
