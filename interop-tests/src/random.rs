//! Repeatable randomness for simulations: a run is told by its seed alone.
//!
//! Never for keys of anything that leaves a test: the generator is SplitMix64.

/// A seeded generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number().checked_rem(bound).unwrap_or(0)
    }

    /// Returns true in `per_mille` of 1,000 cases.
    pub fn chance(&mut self, per_mille: u16) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// Fills `bytes`, the shape the engines take their randomness in.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.iter_mut().zip(self.number().to_le_bytes()).for_each(|(to, from)| *to = from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (mut one, mut other) = ([0; 37], [0; 37]);
        Random::new(7).fill(&mut one);
        Random::new(7).fill(&mut other);
        assert_eq!(one, other);
        Random::new(8).fill(&mut other);
        assert_ne!(one, other);
    }

    #[test]
    fn a_chance_of_a_fifth_is_hit_about_every_fifth_time() {
        let mut random = Random::new(1);
        let hits = (0..10_000).filter(|_| random.chance(200)).count();
        assert!((1_900..2_100).contains(&hits), "{hits}");
    }
}
