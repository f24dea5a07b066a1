//! Receivers inside the server, and watches on the interest of clients.

use super::account::Watch;
use super::interest::Change;
use super::subscription::{Owner, Sub};
use super::{Event, Hub};
use crate::batch::Batch;
use crate::subject;
use crate::trie::{Entry, Place};

/// A tap that holds more is worth a look between the turns of its owner.
pub(super) const FILLING_BYTES: usize = 128 << 10;

/// A receiver whose messages wait for `take`.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) id: u64,
    pub(super) account: u32,
    pub(super) discard: bool,
    pub(super) batch: Batch,
    // What came before that, of which the front was taken.
    rest: Batch,
    /// A TAP event was given and not everything taken since.
    pub(super) announced: bool,
    /// A FILLING event was given and nothing taken since.
    pub(super) filling: bool,
    subs: Vec<u32>,
}

impl Tap {
    /// Bytes that wait.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.rest.size() + self.batch.size()
    }

    fn take(&mut self, limit: usize) -> Batch {
        if self.rest.is_empty() {
            let next = self.batch.likewise();
            self.rest = std::mem::replace(&mut self.batch, next);
        }
        if limit == 0 || self.rest.size() <= limit {
            return std::mem::take(&mut self.rest);
        }
        let front = self.rest.split(limit);
        if self.rest.is_empty() {
            // It would hold the memory of what was taken until the next one comes.
            self.rest = Batch::default();
        }
        front
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.batch.is_empty()
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
            rest: Batch::default(),
            announced: false,
            filling: false,
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

    /// What a tap holds, oldest first, up to about `limit` bytes (0: all that is not a part of something that was taken before).
    /// None: nothing.
    pub fn take(&mut self, tap: u64, limit: usize) -> Option<Batch> {
        let tap = self.floor.taps.get_mut(tap)?;
        let front = tap.take(limit);
        tap.filling = false;
        if tap.is_empty() {
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
