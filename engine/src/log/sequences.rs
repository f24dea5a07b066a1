//! Sets of sequences: chunks of 4096 with a bitmap each, or none when the chunk is full, so that long runs are cheap.

use std::collections::btree_map::Entry;
use std::collections::BTreeMap;

const BITS: u64 = 4096;
const WORDS: usize = (BITS / 64) as usize;

#[derive(Clone, Debug)]
enum Chunk {
    Full,
    Some { count: u32, words: Box<[u64; WORDS]> },
}

impl Chunk {
    fn empty() -> Chunk {
        Chunk::Some { count: 0, words: Box::new([0; WORDS]) }
    }

    fn count(&self) -> u64 {
        match self {
            Chunk::Full => BITS,
            Chunk::Some { count, .. } => u64::from(*count),
        }
    }

    fn contains(&self, at: u64) -> bool {
        match self {
            Chunk::Full => true,
            Chunk::Some { words, .. } => words[(at / 64) as usize] >> (at % 64) & 1 == 1,
        }
    }

    /// Set bits low..=high; returns how many are new.
    fn insert(&mut self, low: u64, high: u64) -> u64 {
        let Chunk::Some { count, words } = self else { return 0 };
        let mut added = 0;
        for word in low / 64..=high / 64 {
            let mask = mask(word, low, high);
            added += (mask & !words[word as usize]).count_ones();
            words[word as usize] |= mask;
        }
        *count += added;
        if u64::from(*count) == BITS {
            *self = Chunk::Full;
        }
        u64::from(added)
    }

    /// Clear the bits below `below`; returns how many were set.
    fn remove_below(&mut self, below: u64) -> u64 {
        if let Chunk::Full = self {
            *self = Chunk::Some { count: BITS as u32, words: Box::new([u64::MAX; WORDS]) };
        }
        let Chunk::Some { count, words } = self else { return 0 };
        if below == 0 {
            return 0;
        }
        let mut removed = 0;
        for word in 0..=(below - 1) / 64 {
            let mask = mask(word, 0, below - 1);
            removed += (mask & words[word as usize]).count_ones();
            words[word as usize] &= !mask;
        }
        *count -= removed;
        u64::from(removed)
    }

    fn count_between(&self, low: u64, high: u64) -> u64 {
        match self {
            Chunk::Full => high - low + 1,
            Chunk::Some { words, .. } => {
                let ones = |word: u64| (words[word as usize] & mask(word, low, high)).count_ones();
                (low / 64..=high / 64).map(|word| u64::from(ones(word))).sum()
            }
        }
    }

    /// The first place from `from` on whose bit is `set`.
    fn next(&self, from: u64, set: bool) -> Option<u64> {
        let Chunk::Some { words, .. } = self else { return set.then_some(from) };
        for word in from / 64..WORDS as u64 {
            let bits = if set { words[word as usize] } else { !words[word as usize] };
            let bits = bits & mask(word, from, BITS - 1);
            if bits != 0 {
                return Some(word * 64 + u64::from(bits.trailing_zeros()));
            }
        }
        None
    }
}

/// The bits of a word that lie in low..=high (places within the chunk).
fn mask(word: u64, low: u64, high: u64) -> u64 {
    let from = low.saturating_sub(word * 64).min(64);
    let to = (high + 1).saturating_sub(word * 64).min(64);
    let up_to = |bit: u64| if bit == 64 { u64::MAX } else { (1 << bit) - 1 };
    up_to(to) & !up_to(from)
}

/// A set of sequences.
#[derive(Clone, Debug, Default)]
pub struct SequenceSet {
    chunks: BTreeMap<u64, Chunk>,
    len: u64,
}

impl SequenceSet {
    /// How many.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forget all.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.len = 0;
    }

    /// Whether a sequence is in.
    pub fn contains(&self, sequence: u64) -> bool {
        self.len > 0 && self.chunks.get(&(sequence / BITS)).is_some_and(|chunk| chunk.contains(sequence % BITS))
    }

    /// Put one in; false if it was there.
    pub fn insert(&mut self, sequence: u64) -> bool {
        self.insert_range(sequence, sequence) == 1
    }

    /// Put low..=high in; returns how many are new. The cost is one step per 4096 sequences.
    pub fn insert_range(&mut self, low: u64, high: u64) -> u64 {
        let mut added = 0;
        if low > high {
            return 0;
        }
        for place in low / BITS..=high / BITS {
            let from = low.saturating_sub(place * BITS);
            let to = (high - place * BITS).min(BITS - 1);
            added += match self.chunks.entry(place) {
                Entry::Vacant(vacant) if from == 0 && to == BITS - 1 => {
                    vacant.insert(Chunk::Full);
                    BITS
                }
                entry => entry.or_insert_with(Chunk::empty).insert(from, to),
            };
        }
        self.len += added;
        added
    }

    /// Drop everything below a sequence.
    pub fn remove_below(&mut self, sequence: u64) {
        while let Some(mut first) = self.chunks.first_entry() {
            let start = first.key() * BITS;
            if start >= sequence {
                break;
            }
            if sequence - start >= BITS {
                self.len -= first.remove().count();
                continue;
            }
            // Nothing below is the usual case on a front that moves by one: leave a full chunk full.
            if first.get().next(0, true).is_some_and(|at| at < sequence - start) {
                self.len -= first.get_mut().remove_below(sequence - start);
            }
            if first.get().count() == 0 {
                first.remove();
            }
            break;
        }
    }

    /// How many lie in low..=high.
    pub fn count(&self, low: u64, high: u64) -> u64 {
        if low > high || self.len == 0 {
            return 0;
        }
        let between = |(place, chunk): (&u64, &Chunk)| {
            let start = place * BITS;
            chunk.count_between(low.saturating_sub(start), (high - start).min(BITS - 1))
        };
        self.chunks.range(low / BITS..=high / BITS).map(between).sum()
    }

    /// The first sequence from `sequence` on that is not in.
    pub fn next_absent(&self, sequence: u64) -> u64 {
        let mut at = sequence;
        while let Some(chunk) = self.chunks.get(&(at / BITS)) {
            match chunk.next(at % BITS, false) {
                Some(place) => return at / BITS * BITS + place,
                None => at = (at / BITS + 1).saturating_mul(BITS),
            }
        }
        at
    }

    /// The first sequence from `sequence` on that is in.
    pub fn next_present(&self, sequence: u64) -> Option<u64> {
        for (place, chunk) in self.chunks.range(sequence / BITS..) {
            let from = sequence.saturating_sub(place * BITS);
            if let Some(at) = chunk.next(from, true) {
                return Some(place * BITS + at);
            }
        }
        None
    }

    /// All, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let mut next = self.next_present(0);
        std::iter::from_fn(move || {
            let at = next?;
            next = at.checked_add(1).and_then(|from| self.next_present(from));
            Some(at)
        })
    }

    /// All as runs (first, last), ascending.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = self.next_present(from)?;
            from = self.next_absent(first);
            Some((first, from - 1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(
            steps in prop::collection::vec((0u8..4, 0u64..20_000, 0u64..9_000), 1..40),
        ) {
            let (mut set, mut plain) = (SequenceSet::default(), BTreeSet::new());
            for (step, low, length) in steps {
                match step {
                    0 => {
                        prop_assert_eq!(set.insert(low), plain.insert(low));
                    }
                    1 => {
                        let before = plain.len();
                        plain.extend(low..=low + length);
                        prop_assert_eq!(set.insert_range(low, low + length), (plain.len() - before) as u64);
                    }
                    2 => {
                        let below = low / 2;
                        set.remove_below(below);
                        plain = plain.split_off(&below);
                    }
                    _ => {
                        prop_assert_eq!(set.count(low, low + length), plain.range(low..=low + length).count() as u64);
                        prop_assert_eq!(set.contains(low), plain.contains(&low));
                        prop_assert_eq!(set.next_present(low), plain.range(low..).next().copied());
                        let absent = (low..).find(|at| !plain.contains(at)).unwrap_or(0);
                        prop_assert_eq!(set.next_absent(low), absent);
                    }
                }
                prop_assert_eq!(set.len(), plain.len() as u64);
            }
            prop_assert!(set.iter().eq(plain.iter().copied()));
            let runs: Vec<u64> = set.runs().flat_map(|(first, last)| first..=last).collect();
            prop_assert!(runs.into_iter().eq(plain.iter().copied()));
        }
    }
}
