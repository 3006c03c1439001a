//! The draw of a line: who came before the opening stands in an order that a published seed decides and anybody can compute
//! again. It is a permutation of the places, so that nobody loses his place and nothing has to be written for it.

use std::fmt::Write;

use aws_lc_rs::{
    hmac::{HMAC_SHA256, Key, sign},
    rand,
};
use serde::{Deserialize, Serialize};

/// The bytes of a seed.
const SEED: usize = 32;

/// How many rounds mix the two halves of a place.
const ROUNDS: u8 = 8;

/// A draw that was made. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// What decides it, in small hexadecimal digits.
    pub seed: String,
    /// The places that take part: the first so many. Whoever comes later keeps his place.
    pub size: u64,
}

/// The system has no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoSeed;

impl Draw {
    /// Draws among the first so many places.
    ///
    /// # Errors
    /// When there is no seed.
    pub fn among(size: u64) -> Result<Self, NoSeed> {
        let mut bytes = [0; SEED];
        rand::fill(&mut bytes).map_err(|_| NoSeed)?;
        let seed = bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok(Self { seed, size })
    }

    /// The place in the order of turns, of a place in the order of arrival; both count from 1.
    pub fn turn_of(&self, place: u64) -> u64 {
        self.walk(place, Rounds::forward)
    }

    /// The place in the order of arrival, of a place in the order of turns.
    pub fn place_of(&self, turn: u64) -> u64 {
        self.walk(turn, Rounds::back)
    }

    fn walk(&self, from: u64, step: impl Fn(&Rounds, u64) -> u64) -> u64 {
        if !(1..=self.size).contains(&from) {
            return from;
        }
        let rounds = Rounds::of(self);
        let mut at = from - 1;
        // The rounds permute a power of four that may be larger. Whoever lands beyond the end goes on from there, and comes
        // back at the latest where he began.
        loop {
            at = step(&rounds, at);
            if at < self.size {
                return at + 1;
            }
        }
    }
}

/// A Feistel network over the places.
struct Rounds {
    key: Key,
    /// The bits of each half.
    bits: u32,
}

impl Rounds {
    fn of(draw: &Draw) -> Self {
        let bits = (u64::BITS - (draw.size - 1).leading_zeros()).div_ceil(2).max(1);
        Self { key: Key::new(HMAC_SHA256, draw.seed.as_bytes()), bits }
    }

    fn forward(&self, at: u64) -> u64 {
        let (mut left, mut right) = self.halves(at);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mixed(round, right));
        }
        left << self.bits | right
    }

    fn back(&self, at: u64) -> u64 {
        let (mut left, mut right) = self.halves(at);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.mixed(round, left), left);
        }
        left << self.bits | right
    }

    fn halves(&self, at: u64) -> (u64, u64) {
        (at >> self.bits, at & self.mask())
    }

    fn mask(&self) -> u64 {
        (1 << self.bits) - 1
    }

    /// The first eight bytes of HMAC-SHA-256 of the round and the half, cut to a half's bits.
    fn mixed(&self, round: u8, half: u64) -> u64 {
        let mut message = vec![round];
        message.extend(half.to_be_bytes());
        let tag = sign(&self.key, &message);
        let mut first = [0; 8];
        first.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        u64::from_be_bytes(first) & self.mask()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn draw(size: u64) -> Draw {
        Draw { seed: "00".repeat(SEED), size }
    }

    #[test]
    fn every_place_has_one_turn_and_every_turn_one_place() {
        for size in (0..70).chain([255, 256, 257, 1_000, 4_097]) {
            let draw = draw(size);
            let turns: BTreeSet<u64> = (1..=size).map(|place| draw.turn_of(place)).collect();
            assert_eq!(turns, (1..=size).collect(), "of {size}");
            assert!((1..=size).all(|place| draw.place_of(draw.turn_of(place)) == place), "of {size}");
        }
    }

    #[test]
    fn who_comes_after_the_draw_keeps_his_place() {
        let draw = draw(10);
        assert_eq!([0, 11, 12, u64::MAX].map(|place| draw.turn_of(place)), [0, 11, 12, u64::MAX]);
        assert_eq!(draw.place_of(11), 11);
    }

    #[test]
    fn another_seed_draws_another_order_and_no_order_is_that_of_arrival() {
        let order = |draw: &Draw| (1..=draw.size).map(|place| draw.turn_of(place)).collect::<Vec<_>>();
        let (one, two) = (Draw::among(200).unwrap(), Draw::among(200).unwrap());
        assert_eq!((one.seed.len(), one.seed.chars().all(|c| c.is_ascii_hexdigit())), (2 * SEED, true));
        assert_ne!(order(&one), order(&two));
        let stay = order(&one).iter().zip(1..).filter(|(turn, place)| **turn == *place).count();
        assert!(stay < 20, "{stay} of 200 stand where they came");
    }

    /// The same as the program in functions/WAITING-ROOM.md says, which was written apart from this.
    #[test]
    fn anybody_can_compute_it_again() {
        let turns: Vec<u64> = (1..=10).map(|place| draw(10).turn_of(place)).collect();
        assert_eq!(turns, [3, 10, 4, 2, 1, 5, 7, 8, 9, 6]);
        assert_eq!(draw(100_000).turn_of(1), 84_774);
        assert_eq!(Draw { seed: "ab".repeat(SEED), size: 100_000 }.turn_of(77_777), 32_829);
    }

    /// The first place gets each quarter of the turns about equally often, over many seeds.
    #[test]
    fn early_places_have_no_better_turns() {
        let mut quarters = [0_u32; 4];
        for number in 0..1_000 {
            let draw = Draw { seed: format!("{number:064x}"), size: 1_000 };
            let quarter = usize::try_from((draw.turn_of(1) - 1) / 250).unwrap();
            quarters[quarter] += 1;
        }
        // Four standard deviations of a thousand throws with a chance of a quarter.
        assert!(quarters.iter().all(|count| (195..=305).contains(count)), "{quarters:?}");
    }
}
