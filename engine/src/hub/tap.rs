//! Receivers inside the server, and watches on the interest of clients.

use super::account::Watch;
use super::interest::Change;
use super::subscription::{Owner, Sub};
use super::{Event, Hub};
use crate::batch::Batch;
use crate::subject;
use crate::trie::{Entry, Place};

/// A receiver whose messages wait for `take`.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) id: u64,
    pub(super) account: u32,
    pub(super) discard: bool,
    pub(super) batch: Batch,
    // Messages at the front of the batch that were taken already, and their bytes.
    head: usize,
    head_bytes: usize,
    /// A TAP event was given and not everything taken since.
    pub(super) announced: bool,
    subs: Vec<u32>,
}

impl Tap {
    /// Bytes that wait.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.batch.size().saturating_sub(self.head_bytes)
    }

    fn take(&mut self, limit: usize) -> Batch {
        if self.head == 0 && (limit == 0 || self.batch.size() <= limit) {
            return std::mem::take(&mut self.batch);
        }
        let waiting = self.size();
        let share = if limit == 0 { waiting } else { waiting.min(limit) };
        let messages = (self.batch.len() - self.head).saturating_mul(share) / waiting.max(1);
        let mut front = Batch::with_capacity(messages + 1, share);
        while let Some(message) = self.batch.get(self.head) {
            if !front.is_empty() && limit != 0 && front.size() >= limit {
                break;
            }
            front.push(message);
            self.head += 1;
        }
        self.head_bytes += front.size();
        if self.head >= self.batch.len() {
            self.batch = Batch::default();
            (self.head, self.head_bytes) = (0, 0);
        } else if self.head > self.batch.len() / 2 {
            // Dropping the taken half now costs at most one more copy of each message.
            let mut rest = Batch::default();
            (self.head..self.batch.len())
                .filter_map(|index| self.batch.get(index))
                .for_each(|message| rest.push(message));
            self.batch = rest;
            (self.head, self.head_bytes) = (0, 0);
        }
        front
    }
}

impl Hub {
    /// A receiver inside the server. With `discard` it counts as a responder and drops what it gets.
    pub fn tap(&mut self, account: &str, discard: bool) -> u64 {
        let account = self.account(account);
        let build = |id| Tap {
            id,
            account,
            discard,
            batch: Batch::default(),
            head: 0,
            head_bytes: 0,
            announced: false,
            subs: Vec::new(),
        };
        self.floor.taps.insert(build).0
    }

    /// Bind a subject to a tap. False if the subject is malformed.
    pub fn tap_add(&mut self, tap: u64, pattern: &[u8], queue: &[u8]) -> bool {
        if !subject::valid(pattern, true) {
            return false;
        }
        let Some(slot) = self.floor.taps.slot(tap) else { return true };
        let Some(tap) = self.floor.taps.at_mut(slot) else { return true };
        let Some(account) = self.accounts.get_mut(tap.account as usize) else { return true };
        let queue = account.hold_queue(queue);
        let number = self.floor.subs.insert(Sub {
            owner: Owner::Tap(slot),
            account: tap.account,
            place: Place { node: 0, position: 0 },
            queue,
            delivered: 0,
            max: 0,
            sid: Box::default(),
            subject: pattern.into(),
        });
        let place = account.insert(pattern, Entry { sub: number, queue });
        if let Some(sub) = self.floor.subs.get_mut(number) {
            sub.place = place;
        }
        tap.subs.push(number);
        let account = tap.account;
        self.spread(Change { account, node: place.node, queue, pattern, came: true });
        true
    }

    /// Unbind one subject, however often it was bound.
    pub fn tap_remove(&mut self, tap: u64, pattern: &[u8]) {
        let Some(tap) = self.floor.taps.get_mut(tap) else { return };
        let subs = &self.floor.subs;
        let (out, left) = std::mem::take(&mut tap.subs)
            .into_iter()
            .partition(|number| subs.get(*number).is_some_and(|sub| *sub.subject == *pattern));
        tap.subs = left;
        self.drop_tap_subs(out);
    }

    /// Forget a tap and what it holds.
    pub fn untap(&mut self, tap: u64) {
        if let Some(tap) = self.floor.taps.get_mut(tap) {
            let subs = std::mem::take(&mut tap.subs);
            self.drop_tap_subs(subs);
        }
        self.floor.taps.remove(tap);
    }

    fn drop_tap_subs(&mut self, numbers: Vec<u32>) {
        for number in numbers {
            self.forget_sub(number);
        }
    }

    /// What a tap holds, oldest first, up to about `limit` bytes (0: all). None: nothing.
    pub fn take(&mut self, tap: u64, limit: usize) -> Option<Batch> {
        let tap = self.floor.taps.get_mut(tap)?;
        let front = tap.take(limit);
        if tap.batch.is_empty() {
            tap.announced = false;
        } else {
            self.floor.events.push(Event::Tap(tap.id));
        }
        (!front.is_empty()).then_some(front)
    }

    /// Tell by events whether clients subscribe to a literal subject: plain ones for an empty `queue`, else its members.
    pub fn watch(&mut self, account: &str, subject: &[u8], queue: &[u8]) -> u64 {
        let number = self.account(account);
        let (id, _) = self.watches.insert(|_| (number, subject.into()));
        if let Some(account) = self.accounts.get_mut(number as usize) {
            let queue = account.hold_queue(queue);
            account.watch(Watch { id, subject: subject.into(), queue, count: 0 }, &self.floor.subs);
        }
        id
    }

    /// The answer to a watch now.
    pub fn interested(&self, watch: u64) -> bool {
        let Some((account, subject)) = self.watches.get(watch) else { return false };
        self.accounts.get(*account as usize).is_some_and(|account| account.interested(subject, watch))
    }

    /// End a watch.
    pub fn unwatch(&mut self, watch: u64) {
        let Some((account, subject)) = self.watches.remove(watch) else { return };
        if let Some(account) = self.accounts.get_mut(account as usize) {
            account.unwatch(&subject, watch);
        }
    }
}
