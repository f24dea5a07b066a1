//! One account: its trie, its match cache, the names of its queue groups and who watches its interest.

use std::collections::BTreeMap;

use ahash::RandomState;
use hashbrown::HashMap;

use super::interest::{Counts, Link};
use super::matched::{Cache, Found, View};
use super::subscription::{Owner, Sub, Subs};
use crate::subject;
use crate::trie::{Entry, Place, Stack, Trie};

/// Names of queue groups as numbers, dropped with their last user.
#[derive(Debug)]
pub(super) struct Queues {
    numbers: HashMap<Box<[u8]>, (u32, usize), RandomState>,
    names: HashMap<u32, Box<[u8]>, RandomState>,
    next: u32,
}

impl Queues {
    fn hold(&mut self, name: &[u8]) -> u32 {
        if name.is_empty() {
            return 0;
        }
        if let Some((number, users)) = self.numbers.get_mut(name) {
            *users += 1;
            return *number;
        }
        loop {
            self.next = self.next.wrapping_add(1).max(1);
            if !self.names.contains_key(&self.next) {
                break;
            }
        }
        self.numbers.insert(name.into(), (self.next, 1));
        self.names.insert(self.next, name.into());
        self.next
    }

    pub(super) fn name(&self, number: u32) -> Option<&[u8]> {
        self.names.get(&number).map(|name| &**name)
    }

    fn release(&mut self, number: u32) {
        let Some(name) = self.names.get(&number) else { return };
        let Some((_, users)) = self.numbers.get_mut(name) else { return };
        *users -= 1;
        if *users == 0 {
            self.numbers.remove(name);
            self.names.remove(&number);
        }
    }
}

/// A watch on a literal subject.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) id: u64,
    pub(super) subject: Box<[u8]>,
    pub(super) queue: u32,
    pub(super) count: usize,
}

/// An account.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: Box<str>,
    pub(super) trie: Trie,
    pub(super) cache: Cache,
    queues: Queues,
    pub(super) hasher: RandomState,
    /// Connections to other servers; empty if there are none.
    pub(super) links: Vec<Link>,
    /// What those were told; None without links.
    pub(super) counts: Option<Counts>,
    // Sorted, so that a wildcard pattern looks only at watches that share its literal beginning.
    watches: BTreeMap<Box<[u8]>, Vec<Watch>>,
}

impl Account {
    pub(super) fn new(name: &str, seed: u64) -> Self {
        let hasher = RandomState::with_seeds(seed, 11, 13, 17);
        Account {
            name: name.into(),
            trie: Trie::new(seed),
            cache: Cache::new(seed),
            queues: Queues {
                numbers: HashMap::with_hasher(hasher.clone()),
                names: HashMap::with_hasher(hasher.clone()),
                next: 0,
            },
            hasher,
            links: Vec::new(),
            counts: None,
            watches: BTreeMap::new(),
        }
    }

    /// Nodes of its trie: one when nothing is left.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.trie.nodes()
    }

    pub(super) fn hold_queue(&mut self, name: &[u8]) -> u32 {
        self.queues.hold(name)
    }

    pub(super) fn queue_number(&self, name: &[u8]) -> Option<u32> {
        self.queues.numbers.get(name).map(|(number, _)| *number)
    }

    pub(super) fn queue_name(&self, number: u32) -> Option<&[u8]> {
        self.queues.name(number)
    }

    pub(super) fn insert(&mut self, pattern: &[u8], entry: Entry) -> Place {
        self.cache.changed(pattern);
        self.trie.insert(pattern, entry)
    }

    /// Take a subscription out that is no longer in `subs`.
    pub(super) fn remove(&mut self, sub: &Sub, subs: &mut Subs) {
        self.cache.changed(&sub.subject);
        if let Some(moved) = self.trie.remove(sub.place) {
            if let Some(other) = subs.get_mut(moved) {
                other.place.position = sub.place.position;
            }
        }
        self.queues.release(sub.queue);
    }

    pub(super) fn find(&mut self, subs: &Subs, subject: &[u8]) -> Found {
        let Account { name, trie, cache, queues, links, .. } = self;
        cache.find(&View { account: name, trie, subs, queues, links }, subject)
    }

    /// Whether there are watches at all.
    pub(super) fn watched(&self) -> bool {
        !self.watches.is_empty()
    }

    /// Add a watch whose count is not known yet.
    pub(super) fn watch(&mut self, mut watch: Watch, subs: &Subs) {
        let client = |entry: Entry| subs.get(entry.sub).is_some_and(|sub| !matches!(sub.owner, Owner::Tap(_)));
        self.trie.matches(&watch.subject, &mut Stack::new(), |entry| {
            watch.count += usize::from(entry.queue == watch.queue && client(entry));
        });
        self.watches.entry(watch.subject.clone()).or_default().push(watch);
    }

    pub(super) fn interested(&self, subject: &[u8], id: u64) -> bool {
        self.watches.get(subject).is_some_and(|list| list.iter().any(|watch| watch.id == id && watch.count > 0))
    }

    pub(super) fn unwatch(&mut self, subject: &[u8], id: u64) {
        let Some(list) = self.watches.get_mut(subject) else { return };
        if let Some(index) = list.iter().position(|watch| watch.id == id) {
            let watch = list.swap_remove(index);
            if list.is_empty() {
                self.watches.remove(subject);
            }
            self.queues.release(watch.queue);
        }
    }

    /// A client's subscription came or went: `tell` the watches whose answer changes.
    pub(super) fn notice(&mut self, pattern: &[u8], queue: u32, came: bool, mut tell: impl FnMut(u64, bool)) {
        let mut count = |list: &mut Vec<Watch>| {
            for watch in list.iter_mut().filter(|watch| watch.queue == queue) {
                let before = watch.count > 0;
                watch.count = if came { watch.count + 1 } else { watch.count.saturating_sub(1) };
                if before != (watch.count > 0) {
                    tell(watch.id, watch.count > 0);
                }
            }
        };
        if !subject::is_pattern(pattern) {
            if let Some(list) = self.watches.get_mut(pattern) {
                count(list);
            }
            return;
        }
        let shared = pattern.iter().position(|byte| matches!(byte, b'*' | b'>')).unwrap_or(0);
        let shared = pattern.get(..shared).unwrap_or_default();
        for (known, list) in
            self.watches.range_mut::<[u8], _>((std::ops::Bound::Included(shared), std::ops::Bound::Unbounded))
        {
            if !known.starts_with(shared) {
                break;
            }
            if subject::matches(pattern, known) {
                count(list);
            }
        }
    }
}
