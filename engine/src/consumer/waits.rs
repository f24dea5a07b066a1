//! When a pending message is due again, and in which order.
//!
//! Both queues are lazy: an item counts only while its entry in the pending table still says the same. That makes an
//! ack cheap; stale items go when they reach the front or outnumber the pending messages.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::pending::{Entry, Pending, Wait};

/// Stale items that are tolerated regardless of how few messages are pending.
const STALE_MIN: usize = 64;

/// Deadlines and the redelivery queue.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    // (deadline, stream_seq). One wait for all makes deadlines come in order, so that no heap is needed.
    steady: VecDeque<(i64, u64)>,
    // Backoff and delays of NAKs.
    odd: BinaryHeap<Reverse<(i64, u64)>>,
    // (ticket, stream_seq) in the order of redelivery.
    queue: VecDeque<(u64, u64)>,
    tickets: u64,
    queued: usize,
}

fn waits_until(pending: &Pending, (deadline, seq): (i64, u64)) -> bool {
    pending.get(seq).is_some_and(|entry| entry.wait == Wait::Until(deadline))
}

fn is_queued(pending: &Pending, (ticket, seq): (u64, u64)) -> bool {
    pending.get(seq).is_some_and(|entry| entry.wait == Wait::Queued(ticket))
}

impl Waits {
    pub fn clear(&mut self) {
        *self = Self { tickets: self.tickets, ..Self::default() };
    }

    /// Messages that wait for another delivery.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Remember the deadline of an entry that says `Until(deadline)`; `odd` if it isn't one ack_wait from now.
    #[inline]
    pub fn arm(&mut self, pending: &Pending, deadline: i64, seq: u64, odd: bool) {
        if odd || self.steady.back().is_some_and(|(last, _)| *last > deadline) {
            self.odd.push(Reverse((deadline, seq)));
            if self.odd.len() > 2 * pending.len() + STALE_MIN {
                self.odd.retain(|Reverse(item)| waits_until(pending, *item));
            }
        } else {
            self.steady.push_back((deadline, seq));
            if self.steady.len() > 2 * pending.len() + STALE_MIN {
                self.steady.retain(|item| waits_until(pending, *item));
            }
        }
    }

    /// An entry left the table.
    #[inline]
    pub fn settled(&mut self, entry: &Entry) {
        if matches!(entry.wait, Wait::Queued(_)) {
            self.queued -= 1;
        }
        if self.steady.front().is_some_and(|(_, seq)| *seq == entry.stream_seq) {
            self.steady.pop_front();
        }
    }

    /// The earliest deadline.
    pub fn next(&mut self, pending: &Pending) -> Option<i64> {
        while self.steady.front().is_some_and(|item| !waits_until(pending, *item)) {
            self.steady.pop_front();
        }
        while self.odd.peek().is_some_and(|Reverse(item)| !waits_until(pending, *item)) {
            self.odd.pop();
        }
        let steady = self.steady.front().map(|(deadline, _)| *deadline);
        let odd = self.odd.peek().map(|Reverse((deadline, _))| *deadline);
        steady.into_iter().chain(odd).min()
    }

    /// Sequences whose time is over, ascending. They stop waiting here: the caller queues or drops each.
    pub fn expired(&mut self, pending: &Pending, now_ns: i64) -> Vec<u64> {
        let mut expired: Vec<u64> = self.overdue(pending, now_ns).into_iter().map(|(_, seq)| seq).collect();
        expired.sort_unstable();
        expired
    }

    /// The same with their deadlines, in the order of those.
    pub fn overdue(&mut self, pending: &Pending, now_ns: i64) -> Vec<(i64, u64)> {
        let mut expired = Vec::new();
        while let Some(item) = self.steady.front().copied().filter(|(deadline, _)| *deadline <= now_ns) {
            self.steady.pop_front();
            if waits_until(pending, item) {
                expired.push(item);
            }
        }
        while self.odd.peek().is_some_and(|Reverse((deadline, _))| *deadline <= now_ns) {
            if let Some(Reverse(item)) = self.odd.pop() {
                if waits_until(pending, item) {
                    expired.push(item);
                }
            }
        }
        // A message may have been given the same deadline twice.
        expired.sort_unstable();
        expired.dedup();
        expired
    }

    /// Put an entry at the end of the redelivery queue.
    pub fn enqueue(&mut self, pending: &mut Pending, seq: u64) {
        let Some(entry) = pending.get_mut(seq) else { return };
        if matches!(entry.wait, Wait::Queued(_)) {
            return;
        }
        self.tickets += 1;
        entry.wait = Wait::Queued(self.tickets);
        self.queue.push_back((self.tickets, seq));
        self.queued += 1;
        if self.queue.len() > 2 * self.queued + STALE_MIN {
            self.queue.retain(|item| is_queued(pending, *item));
        }
    }

    /// An entry that was queued isn't any more.
    pub fn dequeued(&mut self) {
        self.queued -= 1;
    }

    /// The first sequences of the redelivery queue.
    pub fn first_queued(&mut self, pending: &Pending, limit: usize) -> Vec<u64> {
        self.trim(pending);
        self.queue.iter().filter(|item| is_queued(pending, **item)).take(limit).map(|(_, seq)| *seq).collect()
    }

    /// Drop what is stale at the front of the redelivery queue.
    pub fn trim(&mut self, pending: &Pending) {
        while self.queue.front().is_some_and(|item| !is_queued(pending, *item)) {
            self.queue.pop_front();
        }
    }

    /// Forget all deadlines and take those of the table: after a restart or when the wait has changed.
    pub fn rebuild(&mut self, pending: &Pending) {
        self.steady.clear();
        self.odd.clear();
        let until = |entry: &Entry| match entry.wait {
            Wait::Until(deadline) => Some((deadline, entry.stream_seq)),
            _ => None,
        };
        let mut all: Vec<_> = pending.iter().filter_map(until).collect();
        all.sort_unstable();
        self.steady.extend(all);
    }
}
