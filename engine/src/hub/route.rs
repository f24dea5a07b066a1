//! Who gets a message on one literal subject, and the bounded cache of such answers.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;
use hashbrown::HashTable;

use super::subscription::{Owner, Subs};
use crate::trie::{Entry, Stack, Trie};

const ENTRIES_MAX: usize = 4096;
const BYTES_MAX: usize = 8 << 20;
// A route above this is found anew each time: its delivery costs far more than the search.
const ROUTE_BYTES_MAX: usize = 1 << 20;
const DOOR: usize = 4096;
const BUCKETS: usize = 64;
const STALE: u64 = u64::MAX;

/// One receiver of a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) sub: u32,
    pub(super) owner: Owner,
    /// Range of its frame's beginning in the arena; empty when it isn't prepared.
    prefix: (u32, u32),
}

/// Members of one queue group, as a range of targets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) queue: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Plain targets first, then the members of each queue group.
#[derive(Debug, Default)]
pub(super) struct Route {
    pub(super) targets: Vec<Target>,
    pub(super) plain: usize,
    pub(super) groups: Vec<Group>,
    arena: Vec<u8>,
}

impl Route {
    /// `HMSG subject sid `, or nothing.
    #[inline]
    pub(super) fn prefix(&self, target: &Target) -> &[u8] {
        self.arena.get(target.prefix.0 as usize..target.prefix.1 as usize).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    fn clear(&mut self) {
        self.targets.clear();
        self.groups.clear();
        self.arena.clear();
        self.plain = 0;
    }

    fn fill(&mut self, trie: &Trie, subs: &Subs, subject: &[u8], work: &mut Work) {
        self.clear();
        work.members.clear();
        let Work { stack, members } = work;
        let targets = &mut self.targets;
        let add = |targets: &mut Vec<Target>, entry: Entry| {
            if let Some(sub) = subs.get(entry.sub) {
                targets.push(Target { sub: entry.sub, owner: sub.owner, prefix: (0, 0) });
            }
        };
        trie.matches(subject, stack, |entry| {
            if entry.queue == 0 {
                add(targets, entry);
            } else {
                members.push((entry.queue, entry.sub));
            }
        });
        self.plain = targets.len();
        members.sort_unstable();
        let mut rest = members.as_slice();
        while let Some((queue, _)) = rest.first() {
            let count = rest.iter().take_while(|member| member.0 == *queue).count();
            let start = targets.len() as u32;
            let (group, others) = rest.split_at(count);
            for (queue, sub) in group {
                add(targets, Entry { sub: *sub, queue: *queue });
            }
            self.groups.push(Group { queue: *queue, start, end: targets.len() as u32 });
            rest = others;
        }
    }

    /// Prepare the beginnings of the frames.
    fn prepare(&mut self, subs: &Subs, subject: &[u8]) {
        for target in &mut self.targets {
            let (Owner::Conn(_), Some(sub)) = (target.owner, subs.get(target.sub)) else { continue };
            let start = self.arena.len();
            for piece in [b"HMSG ".as_slice(), subject, b" ", &sub.sid, b" "] {
                self.arena.extend_from_slice(piece);
            }
            target.prefix = (start as u32, self.arena.len() as u32);
        }
    }

    fn weight(&self) -> usize {
        self.targets.capacity() * std::mem::size_of::<Target>() + self.groups.capacity() * 12 + self.arena.capacity()
    }
}

#[derive(Debug, Default)]
struct Work {
    stack: Stack,
    members: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct Cached {
    subject: Box<[u8]>,
    hash: u64,
    stamp: u64,
    weight: usize,
    route: Route,
}

/// Where the answer to a look-up lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In the cache, for as long as the epoch stays.
    Cached(usize),
    /// In the scratch route, until the next look-up.
    Scratch,
}

/// Routes of one account.
#[derive(Debug)]
pub(super) struct Routes {
    table: HashTable<u32>,
    entries: Vec<Cached>,
    hand: usize,
    bytes: usize,
    // Hashes of subjects that missed lately: only what misses twice is worth an entry, so one-shot inboxes pass by.
    door: Vec<u32>,
    // Counts changes of wildcard patterns by first token; an entry is stale when its sum has grown.
    changes: [u32; BUCKETS],
    changes_all: u32,
    hasher: RandomState,
    scratch: Route,
    work: Work,
    /// Grows whenever a `Found::Cached` may have become wrong.
    pub(super) epoch: u64,
}

impl Routes {
    pub(super) fn new(seed: u64) -> Self {
        Routes {
            table: HashTable::new(),
            entries: Vec::new(),
            hand: 0,
            bytes: 0,
            door: Vec::new(),
            changes: [0; BUCKETS],
            changes_all: 0,
            hasher: RandomState::with_seeds(seed ^ 5, seed, seed.rotate_left(31), 7),
            scratch: Route::default(),
            work: Work::default(),
            epoch: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn get(&self, found: Found) -> &Route {
        match found {
            Found::Cached(index) => self.entries.get(index).map_or(&self.scratch, |entry| &entry.route),
            Found::Scratch => &self.scratch,
        }
    }

    /// A subscription to `pattern` came or went.
    pub(super) fn changed(&mut self, pattern: &[u8]) {
        self.epoch += 1;
        if self.entries.is_empty() {
            return;
        }
        if !pattern.iter().any(|byte| matches!(byte, b'*' | b'>')) {
            let hash = self.hash(pattern);
            if let Some(index) = self.find(hash, pattern) {
                if let Some(entry) = self.entries.get_mut(index) {
                    entry.stamp = STALE;
                }
            }
            return;
        }
        match first_token(pattern) {
            b"*" | b">" => self.changes_all = self.changes_all.wrapping_add(1),
            token => {
                let bucket = bucket(token);
                if let Some(count) = self.changes.get_mut(bucket) {
                    *count = count.wrapping_add(1);
                }
            }
        }
    }

    /// The route of a literal subject.
    pub(super) fn find_route(&mut self, trie: &Trie, subs: &Subs, subject: &[u8]) -> Found {
        let hash = self.hash(subject);
        let stamp = self.stamp(subject);
        if let Some(index) = self.find(hash, subject) {
            let Routes { entries, work, epoch, bytes, .. } = self;
            if let Some(entry) = entries.get_mut(index) {
                if entry.stamp != stamp {
                    *epoch += 1;
                    entry.route.fill(trie, subs, subject, work);
                    entry.route.prepare(subs, subject);
                    entry.stamp = stamp;
                    *bytes -= entry.weight;
                    entry.weight = entry.route.weight() + subject.len();
                    *bytes += entry.weight;
                }
                return Found::Cached(index);
            }
        }
        self.scratch.fill(trie, subs, subject, &mut self.work);
        if !self.seen(hash) || self.scratch.targets.len() * (subject.len() + 48) > ROUTE_BYTES_MAX {
            return Found::Scratch;
        }
        let mut route = std::mem::take(&mut self.scratch);
        route.prepare(subs, subject);
        route.targets.shrink_to_fit();
        route.arena.shrink_to_fit();
        let weight = route.weight() + subject.len();
        self.keep(Cached { subject: subject.into(), hash, stamp, weight, route })
    }

    /// Whether this hash missed before; from now on it did.
    fn seen(&mut self, hash: u64) -> bool {
        if self.door.is_empty() {
            self.door = vec![0; DOOR];
        }
        let tag = (hash >> 32) as u32 | 1;
        match self.door.get_mut(hash as usize % DOOR) {
            Some(slot) if *slot == tag => true,
            Some(slot) => {
                *slot = tag;
                false
            }
            None => false,
        }
    }

    fn keep(&mut self, cached: Cached) -> Found {
        self.epoch += 1;
        self.bytes += cached.weight;
        while !self.entries.is_empty() && (self.entries.len() >= ENTRIES_MAX || self.bytes > BYTES_MAX) {
            self.evict();
        }
        let index = self.entries.len();
        let Routes { table, entries, .. } = self;
        table.insert_unique(cached.hash, index as u32, |known| {
            entries.get(*known as usize).map_or(0, |entry| entry.hash)
        });
        entries.push(cached);
        Found::Cached(index)
    }

    /// Forget the entry under the hand.
    fn evict(&mut self) {
        if self.hand >= self.entries.len() {
            self.hand = 0;
        }
        let (hand, last) = (self.hand, self.entries.len().saturating_sub(1));
        self.hand += 1;
        self.unlink(hand);
        if hand >= self.entries.len() {
            return;
        }
        let old = self.entries.swap_remove(hand);
        self.bytes = self.bytes.saturating_sub(old.weight);
        if let Some(moved) = self.entries.get(hand) {
            if let Some(link) = self.table.find_mut(moved.hash, |known| *known as usize == last) {
                *link = hand as u32;
            }
        }
    }

    fn unlink(&mut self, index: usize) {
        let Some(entry) = self.entries.get(index) else { return };
        if let Ok(link) = self.table.find_entry(entry.hash, |known| *known as usize == index) {
            link.remove();
        }
    }

    fn find(&self, hash: u64, subject: &[u8]) -> Option<usize> {
        let same = |index: &u32| self.entries.get(*index as usize).is_some_and(|entry| *entry.subject == *subject);
        self.table.find(hash, same).map(|index| *index as usize)
    }

    fn hash(&self, subject: &[u8]) -> u64 {
        let mut state = self.hasher.build_hasher();
        state.write(subject);
        state.finish()
    }

    fn stamp(&self, subject: &[u8]) -> u64 {
        let bucket = self.changes.get(bucket(first_token(subject))).copied().unwrap_or(0);
        // STALE can't arise: the upper half would have to be all ones too, which is left out.
        (u64::from(self.changes_all & 0x7fff_ffff) << 32) | u64::from(bucket)
    }
}

fn first_token(subject: &[u8]) -> &[u8] {
    subject.split(|byte| *byte == b'.').next().unwrap_or_default()
}

fn bucket(token: &[u8]) -> usize {
    token.iter().take(16).fold(token.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % BUCKETS
}
