//! Records one behind the other in one piece of memory: what a commit appends to a log, and the tail of it in a cache.

use std::ops::Range;

use crate::codec::pack;
use crate::codec::record::{self, Corrupt, Record};
use crate::log::index::Filters;

#[derive(Clone, Copy, Debug)]
struct Place {
    sequence: u64,
    end: usize,
    live: bool,
}

/// Records that share an entry of a store.
#[derive(Debug)]
pub struct Entry {
    /// How many.
    pub count: usize,
    /// Where the first one lies in the block; one that is alone ends `bytes` behind that.
    pub start: usize,
    /// Bytes of all of them.
    pub bytes: usize,
    /// The last sequence.
    pub last: u64,
    /// The place behind them.
    pub behind: usize,
}

/// Records by ascending sequence.
#[derive(Clone, Debug, Default)]
pub struct Block {
    arena: Vec<u8>,
    places: Vec<Place>,
    dead: usize,
}

impl Block {
    /// The records of one entry of a store.
    pub fn unpacked(entry: &[u8]) -> Result<Block, Corrupt> {
        let records = pack::split(entry)?;
        let mut block = Block::with_capacity(records.len(), entry.len());
        for (sequence, value) in records {
            block.push_encoded(sequence, value);
        }
        Ok(block)
    }

    /// Empty, with room for so many records of so many bytes together.
    pub fn with_capacity(records: usize, bytes: usize) -> Block {
        Block { arena: Vec::with_capacity(bytes), places: Vec::with_capacity(records), dead: 0 }
    }

    /// Encode one more record, above all others.
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) {
        record::encode_into(&mut self.arena, record);
        self.places.push(Place { sequence: record.sequence, end: self.arena.len(), live: true });
    }

    /// Take in one more record that is encoded already. False if it isn't above all others.
    pub fn push_encoded(&mut self, sequence: u64, value: &[u8]) -> bool {
        if self.places.last().is_some_and(|last| last.sequence >= sequence) {
            return false;
        }
        self.arena.extend_from_slice(value);
        self.places.push(Place { sequence, end: self.arena.len(), live: true });
        true
    }

    /// Take in copies of all records of another block. False, and nothing done, if they aren't above all that are here.
    pub fn extend(&mut self, more: &Block) -> bool {
        if let (Some(last), Some(first)) = (self.places.last(), more.places.first()) {
            if last.sequence >= first.sequence {
                return false;
            }
        }
        let before = self.arena.len();
        make_room(&mut self.arena, more.arena.len());
        make_room(&mut self.places, more.places.len());
        self.arena.extend_from_slice(&more.arena);
        self.places.extend(more.places.iter().map(|place| Place { end: before + place.end, ..*place }));
        self.dead += more.dead;
        true
    }

    /// The same records in another form, about `more` bytes longer each: `change` appends it to what it is given.
    pub fn changed<E>(
        &self,
        more: usize,
        mut change: impl FnMut(&mut Vec<u8>, &[u8]) -> Result<(), E>,
    ) -> Result<Block, E> {
        let mut block = Block::with_capacity(self.len(), self.arena.len() + self.len() * more);
        for (sequence, value) in self.from_place(0) {
            change(&mut block.arena, value)?;
            block.places.push(Place { sequence, end: block.arena.len(), live: true });
        }
        Ok(block)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.dead
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last sequence, 0 if there is none.
    pub fn last_seq(&self) -> u64 {
        self.places.iter().rev().find(|place| place.live).map_or(0, |place| place.sequence)
    }

    /// Memory that it takes.
    pub fn size(&self) -> usize {
        self.arena.capacity() + self.places.capacity() * std::mem::size_of::<Place>()
    }

    /// Give back what was reserved in vain.
    pub fn shrink(&mut self) {
        if self.arena.capacity() > self.arena.len() + self.arena.len() / 4 + 4096 {
            self.arena.shrink_to_fit();
        }
        if self.places.capacity() > 2 * self.places.len() + 16 {
            self.places.shrink_to_fit();
        }
    }

    /// The first record at or behind a place, and the place behind it.
    #[inline]
    pub fn next(&self, mut place: usize) -> Option<(u64, &[u8], usize)> {
        while let Some(found) = self.places.get(place) {
            if found.live {
                return Some((found.sequence, self.value(place), place + 1));
            }
            place += 1;
        }
        None
    }

    /// What the next entry of a store takes from a place on, so that it has at most so many bytes. One record is always taken.
    pub fn entry(&self, place: usize, bytes_max: usize) -> Option<Entry> {
        let (last, value, behind) = self.next(place)?;
        let start = self.places[behind - 1].end - value.len();
        let mut entry = Entry { count: 1, start, bytes: value.len(), last, behind };
        while let Some((last, value, behind)) = self.next(entry.behind) {
            let (count, bytes) = (entry.count + 1, entry.bytes + value.len());
            if bytes + pack::overhead(count) > bytes_max.min(pack::BYTES_MAX) {
                break;
            }
            entry = Entry { count, start, bytes, last, behind };
        }
        Some(entry)
    }

    /// The place of the first record with a sequence from this one on.
    pub fn place(&self, sequence: u64) -> usize {
        self.places.partition_point(|place| place.sequence < sequence)
    }

    /// Records from a place on, ascending.
    pub fn from_place(&self, mut place: usize) -> impl Iterator<Item = (u64, &[u8])> {
        std::iter::from_fn(move || {
            let (sequence, value, behind) = self.next(place)?;
            place = behind;
            Some((sequence, value))
        })
    }

    /// One record.
    pub fn get(&self, sequence: u64) -> Option<&[u8]> {
        let (found, value, _) = self.next(self.place(sequence))?;
        (found == sequence).then_some(value)
    }

    /// How many records match any of the filters (none: all).
    pub fn matching(&self, filters: &[&[u8]]) -> u64 {
        let filters = Filters::new(filters);
        if filters.all() {
            return self.len() as u64;
        }
        let (mut count, mut last, mut last_matches) = (0, &[][..], false);
        for (_, value) in self.from_place(0) {
            let Ok(record) = record::decode_unverified(value) else { continue };
            if record.subject != last {
                (last, last_matches) = (record.subject, filters.matches(record.subject));
            }
            count += u64::from(last_matches);
        }
        count
    }

    /// Take one record out, if it is there.
    pub fn remove(&mut self, sequence: u64) {
        let place = self.place(sequence);
        if let Some(found) = self.places.get_mut(place) {
            if found.sequence == sequence && found.live {
                found.live = false;
                self.dead += 1;
            }
        }
    }

    /// Take every record with low <= sequence < high out.
    pub fn remove_range(&mut self, low: u64, high: u64) {
        let (from, to) = (self.place(low), self.place(high));
        for place in self.places.get_mut(from..to).unwrap_or_default() {
            if std::mem::take(&mut place.live) {
                self.dead += 1;
            }
        }
    }

    /// What lies somewhere in it; nothing, if that isn't in it.
    pub fn bytes(&self, place: Range<usize>) -> &[u8] {
        self.arena.get(place).unwrap_or_default()
    }

    fn value(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.places[before].end);
        &self.arena[start..self.places[place].end]
    }
}

/// Room for more at the end of what is extended a little at a time and kept for long: not twice as much as is there, as a vector
/// would take by itself.
fn make_room<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more + vec.len() / 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn holds_what_a_map_holds(
            gaps in prop::collection::vec((1u64..4, 0usize..20), 0..60),
            steps in prop::collection::vec((0u64..150, 0u64..30, any::<bool>()), 0..20),
        ) {
            let (mut block, mut model, mut last) = (Block::default(), BTreeMap::new(), 0);
            for (gap, size) in gaps {
                last += gap;
                let value = vec![last as u8; size];
                prop_assert!(block.push_encoded(last, &value));
                prop_assert!(!block.push_encoded(last, &value));
                model.insert(last, value);
            }
            for (low, width, single) in steps {
                if single {
                    block.remove(low);
                    model.remove(&low);
                } else {
                    block.remove_range(low, low + width);
                    model.retain(|sequence, _| !(low..low + width).contains(sequence));
                }
                prop_assert_eq!(block.len(), model.len());
                for from in [0, 1, low, low + width, last] {
                    let rest: Vec<_> = model.range(from..).map(|(sequence, value)| (*sequence, &value[..])).collect();
                    prop_assert_eq!(block.from_place(block.place(from)).collect::<Vec<_>>(), rest);
                    prop_assert_eq!(block.get(from), model.get(&from).map(|value| &value[..]));
                }
                block.remove_range(low + width, low);
            }
            let mut more = Block::default();
            prop_assert!(more.push_encoded(last + 3, b"x") && more.push_encoded(last + 5, b"yz"));
            more.remove(last + 3);
            model.insert(last + 5, b"yz".to_vec());
            prop_assert!(block.extend(&more));
            prop_assert!(!block.extend(&more));
            let all: Vec<_> = model.iter().map(|(sequence, value)| (*sequence, &value[..])).collect();
            prop_assert_eq!(block.from_place(0).collect::<Vec<_>>(), all);
            prop_assert_eq!(block.len(), model.len());
        }
    }
}
