//! What is known of every subject: how many messages, and between which sequences they lie.
//!
//! Names lie in one arena and entries in one vector; a table maps hashes to entries. So 100,000 subjects are three
//! allocations, and a checkpoint of them is restored at memory speed.

use std::collections::VecDeque;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::subject;

/// One subject. `count` is exact and never 0 for an entry in use.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    start: usize,
    length: u16,
    /// Whether `last` is the last message; if not it is an upper bound.
    pub exact: bool,
    /// Bytes that the last message counts for; 0 when unknown. Only kept along with queues.
    pub size: u32,
    /// Live messages.
    pub count: u64,
    /// Lower bound of the first one; exact along with queues.
    pub first: u64,
    /// The last one, see `exact`.
    pub last: u64,
    /// Messages removed since the last delta that the checkpoint knows.
    pub removed: u64,
}

impl Entry {
    /// An entry without a name.
    pub fn blank(count: u64) -> Entry {
        Entry { start: 0, length: 0, exact: true, size: 0, count, first: 0, last: 0, removed: 0 }
    }
}

/// All but the last message of a subject, oldest first, with their sizes.
pub type Queue = VecDeque<(u64, u32)>;

/// Subjects by name.
#[derive(Debug, Default)]
pub struct Index {
    names: Vec<u8>,
    entries: Vec<Entry>,
    // Parallel to `entries` when queues are kept, else empty: most streams need none.
    queues: Vec<Queue>,
    keep_queues: bool,
    table: HashTable<u32>,
    hasher: RandomState,
    free: Vec<u32>,
    garbage: usize,
    inexact: u64,
    // Publishers tend to repeat themselves: the slot looked up last.
    memo: u32,
}

const NONE: u32 = u32::MAX;
/// Names of forgotten subjects are kept until they are this much and half of the arena.
const GARBAGE_MAX: usize = 1 << 20;

impl Index {
    /// An empty index, with or without queues.
    pub fn new(keep_queues: bool) -> Index {
        Index { keep_queues, memo: NONE, ..Index::default() }
    }

    /// Whether every subject knows all its sequences.
    pub fn queued(&self) -> bool {
        self.keep_queues
    }

    /// How many subjects.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many subjects have only a bound for their last message.
    pub fn inexact(&self) -> u64 {
        self.inexact
    }

    /// Bytes of the names held, for sizing.
    pub fn names_len(&self) -> usize {
        self.names.len()
    }

    /// Make room for a restore.
    pub fn reserve(&mut self, subjects: usize, names: usize) {
        self.names.reserve(names);
        self.entries.reserve(subjects);
        let (entries, all, hasher) = (&self.entries, &self.names, &self.hasher);
        self.table.reserve(subjects, |slot| hasher.hash_one(name_of(all, &entries[*slot as usize])));
    }

    /// The name of a slot.
    pub fn name(&self, slot: u32) -> &[u8] {
        name_of(&self.names, &self.entries[slot as usize])
    }

    /// The entry of a slot.
    pub fn entry(&self, slot: u32) -> &Entry {
        &self.entries[slot as usize]
    }

    /// The entry of a slot, to change `removed`.
    pub fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    /// The older messages of a slot; empty when no queues are kept.
    pub fn queue(&self, slot: u32) -> Option<&Queue> {
        self.queues.get(slot as usize)
    }

    /// The slot of a name.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<u32> {
        if self.memo != NONE && self.name(self.memo) == name {
            return Some(self.memo);
        }
        self.table.find(self.hasher.hash_one(name), |slot| self.name(*slot) == name).copied()
    }

    /// The slot of a name, with an empty entry if it is new: the caller adds a message at once.
    #[inline]
    pub fn find_or_insert(&mut self, name: &[u8]) -> u32 {
        if self.memo != NONE && self.name(self.memo) == name {
            return self.memo;
        }
        let hash = self.hasher.hash_one(name);
        let (entries, names) = (&self.entries, &self.names);
        if let Some(slot) = self.table.find(hash, |slot| name_of(names, &entries[*slot as usize]) == name) {
            self.memo = *slot;
            return *slot;
        }
        self.insert(hash, name)
    }

    fn insert(&mut self, hash: u64, name: &[u8]) -> u32 {
        if self.garbage > GARBAGE_MAX && self.garbage > self.names.len() / 2 {
            self.compact();
        }
        let start = self.names.len();
        self.names.extend_from_slice(name);
        let entry = Entry { start, length: name.len() as u16, ..Entry::blank(0) };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                if self.entries.is_empty() {
                    self.entries.reserve_exact(1); // many streams have one subject
                }
                self.entries.push(entry);
                if self.keep_queues {
                    self.queues.push(Queue::new());
                }
                (self.entries.len() - 1) as u32
            }
        };
        let (entries, names, hasher) = (&self.entries, &self.names, &self.hasher);
        self.table.insert_unique(hash, slot, |slot| hasher.hash_one(name_of(names, &entries[*slot as usize])));
        self.memo = slot;
        slot
    }

    /// A message of this subject is stored; sequences ascend.
    #[inline]
    pub fn add(&mut self, slot: u32, sequence: u64, size: u32) {
        let entry = &mut self.entries[slot as usize];
        if entry.count == 0 {
            entry.first = sequence;
        } else if self.keep_queues {
            self.queues[slot as usize].push_back((entry.last, entry.size));
        }
        if !entry.exact {
            entry.exact = true;
            self.inexact -= 1;
        }
        entry.count += 1;
        entry.last = sequence;
        entry.size = size;
    }

    /// A message of this subject is gone. Returns whether it was the last of its name: `release` must follow.
    pub fn remove(&mut self, slot: u32, sequence: u64) -> bool {
        let entry = &mut self.entries[slot as usize];
        entry.count = entry.count.saturating_sub(1);
        if entry.count == 0 {
            return true;
        }
        if self.keep_queues {
            let queue = &mut self.queues[slot as usize];
            if sequence == entry.last {
                (entry.last, entry.size) = queue.pop_back().unwrap_or_default();
            } else if let Ok(at) = queue.binary_search_by_key(&sequence, |(sequence, _)| *sequence) {
                queue.remove(at);
            }
            entry.first = queue.front().map_or(entry.last, |(sequence, _)| *sequence);
            return false;
        }
        if sequence == entry.first {
            entry.first += 1;
        }
        if sequence == entry.last {
            entry.last -= 1;
            self.inexact += u64::from(entry.exact);
            entry.exact = false;
        }
        self.settle(slot);
        false
    }

    /// Where the bounds meet, the message between them is known.
    fn settle(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        if !entry.exact && entry.first == entry.last {
            entry.exact = true;
            self.inexact -= 1;
        }
    }

    /// Everything of this subject lies at `first` or behind it.
    pub fn raise_first(&mut self, slot: u32, first: u64) {
        let entry = &mut self.entries[slot as usize];
        entry.first = entry.first.max(first).min(entry.last);
        self.settle(slot);
    }

    /// The last message of this subject, as the caller found it; or, with `exact` false, an upper bound.
    pub fn set_last(&mut self, slot: u32, last: u64, exact: bool) {
        let entry = &mut self.entries[slot as usize];
        self.inexact -= u64::from(!entry.exact);
        entry.last = last;
        entry.exact = exact;
        self.inexact += u64::from(!exact);
        entry.first = entry.first.min(last);
        self.settle(slot);
    }

    /// Forget a subject without messages.
    pub fn release(&mut self, slot: u32) {
        let hash = self.hasher.hash_one(self.name(slot));
        if let Ok(found) = self.table.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        let entry = &mut self.entries[slot as usize];
        self.inexact -= u64::from(!entry.exact);
        entry.exact = true;
        entry.removed = 0;
        self.garbage += usize::from(entry.length);
        entry.length = 0;
        if let Some(queue) = self.queues.get_mut(slot as usize) {
            queue.clear();
        }
        self.free.push(slot);
        self.memo = NONE;
    }

    /// Restore an entry: a name that is not there yet.
    pub fn restore(&mut self, name: &[u8], restored: Entry, queue: Queue) -> u32 {
        let slot = self.insert(self.hasher.hash_one(name), name);
        let entry = &mut self.entries[slot as usize];
        *entry = Entry { start: entry.start, length: entry.length, ..restored };
        self.inexact += u64::from(!restored.exact);
        if let Some(place) = self.queues.get_mut(slot as usize) {
            *place = queue;
        }
        slot
    }

    /// Keep the messages of a slot that are live; only along with queues. False: none is left, `release` must follow.
    pub fn retain(&mut self, slot: u32, live: impl Fn(u64) -> bool) -> bool {
        let (entry, queue) = (&mut self.entries[slot as usize], &mut self.queues[slot as usize]);
        queue.retain(|(sequence, _)| live(*sequence));
        entry.count = queue.len() as u64 + 1;
        if !live(entry.last) {
            entry.count -= 1;
            (entry.last, entry.size) = queue.pop_back().unwrap_or_default();
        }
        entry.first = queue.front().map_or(entry.last, |(sequence, _)| *sequence);
        entry.count > 0
    }

    /// All slots in use, in the order of the arena: restored and live indexes may differ in it.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.entries.len() as u32).filter(|slot| self.entries[*slot as usize].count > 0)
    }

    /// The slots that match any of the filters (none: all), each once.
    pub fn matching(&self, filters: &Filters<'_>) -> Vec<u32> {
        if filters.all {
            return self.slots().collect();
        }
        let mut slots: Vec<u32> = filters.literals.iter().filter_map(|name| self.find(name)).collect();
        if !filters.patterns.is_empty() {
            slots.extend(self.slots().filter(|slot| filters.patterns_match(self.name(*slot))));
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    fn compact(&mut self) {
        let mut names = Vec::with_capacity(self.names.len() - self.garbage);
        for entry in &mut self.entries {
            let start = names.len();
            names.extend_from_slice(name_of(&self.names, entry));
            entry.start = start;
        }
        self.names = names;
        self.garbage = 0;
    }
}

fn name_of<'a>(names: &'a [u8], entry: &Entry) -> &'a [u8] {
    &names[entry.start..entry.start + usize::from(entry.length)]
}

/// Filters made ready: literals are looked up, patterns are matched. Empty filters and `>` mean all.
#[derive(Debug)]
pub struct Filters<'a> {
    all: bool,
    literals: Vec<&'a [u8]>,
    patterns: Vec<&'a [u8]>,
}

impl<'a> Filters<'a> {
    /// Sort them.
    pub fn new(filters: &[&'a [u8]]) -> Filters<'a> {
        let all = filters.is_empty() || filters.contains(&&b">"[..]);
        let (patterns, literals) = filters.iter().copied().partition(|filter| subject::is_pattern(filter));
        Filters { all, literals, patterns }
    }

    /// Whether everything matches.
    pub fn all(&self) -> bool {
        self.all
    }

    /// Whether a subject matches any.
    #[inline]
    pub fn matches(&self, name: &[u8]) -> bool {
        self.all || self.literals.contains(&name) || self.patterns_match(name)
    }

    fn patterns_match(&self, name: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| subject::matches(pattern, name))
    }
}
