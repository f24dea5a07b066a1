//! Subscriptions of clients and taps, numbered so that the trie and the cache hold four bytes for each.

use ahash::RandomState;

use crate::trie::Place;

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Slot of a connection.
    Conn(u32),
    /// Slot of a tap.
    Tap(u32),
    /// Slot of a connection to the server whose clients want it.
    Route(u32),
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Sub {
    pub(super) owner: Owner,
    pub(super) account: u32,
    pub(super) place: Place,
    /// Number of the queue group in its account, 0 for none.
    pub(super) queue: u32,
    /// Messages so far, since UNSUB counts those before it.
    pub(super) delivered: u64,
    /// It ends after so many; 0 for never. Of a queue group on another server: how many members it has there.
    pub(super) max: u64,
    /// The client's name for it. Of a route: the cluster of leaf nodes that it comes from.
    pub(super) sid: Box<[u8]>,
    pub(super) subject: Box<[u8]>,
}

impl Sub {
    /// Hash by which a route finds it again.
    pub(super) fn hash(&self, hasher: &RandomState) -> u64 {
        hash(hasher, self.account, self.queue, &self.subject, &self.sid)
    }
}

/// Hash of a route's subscription.
pub(super) fn hash(hasher: &RandomState, account: u32, queue: u32, subject: &[u8], origin: &[u8]) -> u64 {
    hasher.hash_one((account, queue, subject, origin))
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Subs {
    slots: Vec<Option<Sub>>,
    free: Vec<u32>,
}

impl Subs {
    pub(super) fn insert(&mut self, sub: Sub) -> u32 {
        match self.free.pop() {
            Some(number) => {
                if let Some(slot) = self.slots.get_mut(number as usize) {
                    *slot = Some(sub);
                }
                number
            }
            None => {
                self.slots.push(Some(sub));
                (self.slots.len() - 1) as u32
            }
        }
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Sub> {
        let sub = self.slots.get_mut(number as usize)?.take();
        if sub.is_some() {
            self.free.push(number);
        }
        if self.free.len() == self.slots.len() {
            *self = Subs::default();
        }
        sub
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&Sub> {
        self.slots.get(number as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Sub> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
