//! Who gets a message on one literal subject, and the bounded cache of such answers.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;
use hashbrown::HashTable;

use super::account::Queues;
use super::interest::Link;
use super::remote::Remote;
use super::subscription::{Owner, Subs};
use crate::trie::{Stack, Trie};

const ENTRIES_MAX: usize = 4096;
const BYTES_MAX: usize = 8 << 20;
// What is above this is found anew each time: its delivery costs far more than the search.
const MATCHED_BYTES_MAX: usize = 1 << 20;
const DOOR: usize = 4096;
const BUCKETS: usize = 64;
const STALE: u64 = u64::MAX;

/// One receiver.
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

/// What an account knows of those who may get a message.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) account: &'a str,
    pub(super) trie: &'a Trie,
    pub(super) subs: &'a Subs,
    pub(super) queues: &'a Queues,
    pub(super) links: &'a [Link],
}

/// Plain targets first, then the members of each queue group.
#[derive(Debug, Default)]
pub(super) struct Matched {
    pub(super) targets: Vec<Target>,
    pub(super) plain: usize,
    pub(super) groups: Vec<Group>,
    /// Other servers that want it.
    pub(super) remote: Option<Box<Remote>>,
    arena: Vec<u8>,
}

impl Matched {
    /// `HMSG subject sid `, or nothing.
    #[inline]
    pub(super) fn prefix(&self, target: &Target) -> &[u8] {
        self.arena.get(target.prefix.0 as usize..target.prefix.1 as usize).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.remote.as_ref().is_none_or(|remote| remote.is_empty())
    }

    /// The members of a queue group.
    pub(super) fn group(&self, queue: u32) -> Option<Group> {
        let place = self.groups.binary_search_by_key(&queue, |group| group.queue).ok()?;
        self.groups.get(place).copied()
    }

    fn clear(&mut self) {
        self.targets.clear();
        self.groups.clear();
        self.arena.clear();
        self.plain = 0;
        if let Some(remote) = &mut self.remote {
            remote.clear();
        }
    }

    fn fill(&mut self, view: &View<'_>, subject: &[u8], work: &mut Work) {
        self.clear();
        work.members.clear();
        let Work { stack, members } = work;
        view.trie.matches(subject, stack, |entry| {
            if entry.queue == 0 {
                self.add(entry.sub, view, subject);
            } else {
                members.push((entry.queue, entry.sub));
            }
        });
        self.plain = self.targets.len();
        members.sort_unstable();
        for group in members.chunk_by(|a, b| a.0 == b.0) {
            let start = self.targets.len() as u32;
            group.iter().for_each(|(_, sub)| self.add(*sub, view, subject));
            let (queue, end) = (group.first().map_or(0, |member| member.0), self.targets.len() as u32);
            if end > start || self.remote.as_ref().is_some_and(|remote| remote.ends_with(queue)) {
                self.groups.push(Group { queue, start, end });
            }
        }
        if let Some(remote) = &mut self.remote {
            remote.close_groups(&self.groups, view);
        }
    }

    #[inline]
    fn add(&mut self, number: u32, view: &View<'_>, subject: &[u8]) {
        match view.subs.get(number).map(|sub| sub.owner) {
            Some(Owner::Route(slot)) => self.add_remote(number, slot, view, subject),
            Some(owner) => self.targets.push(Target { sub: number, owner, prefix: (0, 0) }),
            None => {}
        }
    }

    #[cold]
    fn add_remote(&mut self, number: u32, slot: u32, view: &View<'_>, subject: &[u8]) {
        if let Some(link) = view.links.iter().find(|link| link.from == slot) {
            self.remote.get_or_insert_default().add(link.to, number, view, subject);
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
        let remote = self.remote.as_ref().map_or(0, |remote| remote.weight());
        self.targets.capacity() * std::mem::size_of::<Target>()
            + self.groups.capacity() * std::mem::size_of::<Group>()
            + self.arena.capacity()
            + remote
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
    matched: Matched,
}

/// Where the answer to a look-up lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In the cache, for as long as the epoch stays.
    Cached(usize),
    /// In the scratch, until the next look-up.
    Scratch,
}

/// Cache of one account.
#[derive(Debug)]
pub(super) struct Cache {
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
    scratch: Matched,
    work: Work,
    /// Grows whenever a `Found::Cached` may have become wrong.
    pub(super) epoch: u64,
}

impl Cache {
    pub(super) fn new(seed: u64) -> Self {
        Cache {
            table: HashTable::new(),
            entries: Vec::new(),
            hand: 0,
            bytes: 0,
            door: Vec::new(),
            changes: [0; BUCKETS],
            changes_all: 0,
            hasher: RandomState::with_seeds(seed ^ 5, seed, seed.rotate_left(31), 7),
            scratch: Matched::default(),
            work: Work::default(),
            epoch: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn get(&self, found: Found) -> &Matched {
        match found {
            Found::Cached(index) => self.entries.get(index).map_or(&self.scratch, |entry| &entry.matched),
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
            if let Some(index) = self.index(hash, pattern) {
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

    /// Connections to other servers came or went.
    pub(super) fn changed_all(&mut self) {
        self.epoch += 1;
        self.changes_all = self.changes_all.wrapping_add(1);
    }

    /// Who gets a message on a literal subject.
    pub(super) fn find(&mut self, view: &View<'_>, subject: &[u8]) -> Found {
        let hash = self.hash(subject);
        let stamp = self.stamp(subject);
        if let Some(index) = self.index(hash, subject) {
            let Cache { entries, work, epoch, bytes, .. } = self;
            if let Some(entry) = entries.get_mut(index) {
                if entry.stamp != stamp {
                    *epoch += 1;
                    entry.matched.fill(view, subject, work);
                    entry.matched.prepare(view.subs, subject);
                    entry.stamp = stamp;
                    *bytes -= entry.weight;
                    entry.weight = entry.matched.weight() + subject.len();
                    *bytes += entry.weight;
                }
                return Found::Cached(index);
            }
        }
        self.scratch.fill(view, subject, &mut self.work);
        if !self.seen(hash) || self.scratch.targets.len() * (subject.len() + 48) > MATCHED_BYTES_MAX {
            return Found::Scratch;
        }
        let mut matched = std::mem::take(&mut self.scratch);
        matched.prepare(view.subs, subject);
        matched.targets.shrink_to_fit();
        matched.arena.shrink_to_fit();
        let weight = matched.weight() + subject.len();
        self.keep(Cached { subject: subject.into(), hash, stamp, weight, matched })
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
        let Cache { table, entries, .. } = self;
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

    fn index(&self, hash: u64, subject: &[u8]) -> Option<usize> {
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
