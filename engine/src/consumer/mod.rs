//! Deterministic machine of one consumer: what was delivered, what is pending, what comes again, who waits for it.
//!
//! It never reads the log: whoever drives it loads the records that `next_seq` and `due` ask for and hands them to
//! `deliver`. Time is an argument. Source: nats-server 2.15.2.

mod acks;
mod deliver;
mod flow;
pub(crate) mod pending;
mod persist;
mod requests;
pub(crate) mod waits;

use std::collections::BTreeMap;

use crate::codec::delivery::AckSubject;
use crate::publish::Publisher;
use crate::subject;

pub use acks::{Nak, Outcome, Sample, Term};
pub use deliver::{Blocked, Delivery, How, Target};
pub use pending::Entry;
pub use requests::Ask;

use flow::Flow;
use pending::{Pending, Wait};
use requests::Requests;
use waits::Waits;

/// Messages that used up max_deliver and are remembered until acked or deleted. nats-server keeps all of them; here the
/// oldest make way, so that a consumer whose clients never ack stays bounded in memory and in what it stores.
pub const EXHAUSTED_MAX: usize = 16_384;

/// Which acks a consumer expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckPolicy {
    /// None: a delivered message is done.
    None,
    /// One ack settles everything up to its message.
    All,
    /// Each message has its own.
    Explicit,
}

/// What may change during the life of a consumer. Zero or negative means no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a delivered message may stay without an ack.
    pub ack_wait_ns: i64,
    /// Instead of ack_wait: the wait after the first, second ... delivery; the last one repeats.
    pub backoff_ns: Vec<i64>,
    /// Deliveries of one message at most.
    pub max_deliver: i64,
    /// Pending messages that stop new deliveries.
    pub max_ack_pending: i64,
    /// Waiting pull requests at most.
    pub max_waiting: i64,
    /// Patterns of subjects to deliver; none: all.
    pub filters: Vec<String>,
    /// Deliver headers without bodies.
    pub headers_only: bool,
    /// Report acked messages one by one.
    pub sampling: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ack_wait_ns: 30_000_000_000,
            backoff_ns: Vec::new(),
            max_deliver: -1,
            max_ack_pending: -1,
            max_waiting: 512,
            filters: Vec::new(),
            headers_only: false,
            sampling: false,
        }
    }
}

impl Options {
    fn wait_ns(&self, deliveries: u32) -> i64 {
        let last = self.backoff_ns.len().saturating_sub(1);
        let step = (deliveries.max(1) - 1) as usize;
        self.backoff_ns.get(step.min(last)).copied().unwrap_or(self.ack_wait_ns)
    }
}

/// A pair of sequences with the moment it was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Count of the consumer's deliveries.
    pub consumer_seq: u64,
    /// Place in the stream.
    pub stream_seq: u64,
    /// When, 0 for never.
    pub at_ns: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exhausted {
    consumer_seq: u64,
    deliveries: u32,
}

/// One consumer.
#[derive(Debug)]
pub struct Consumer {
    policy: AckPolicy,
    options: Options,
    next_seq: u64,
    num_pending: u64,
    delivered: Position,
    floor: Position,
    pending: Pending,
    waits: Waits,
    // Gave up on, neither acked nor deleted: no longer pending, yet they hold the ack floor.
    exhausted: BTreeMap<u64, Exhausted>,
    redelivered: u64,
    requests: Requests,
    flow: Option<Flow>,
    subject: AckSubject,
    sizes: Vec<u8>,
    // Runs of one subject are the rule, so that the last answer of the filters is worth keeping.
    memo: (Vec<u8>, bool),
}

impl Consumer {
    /// A consumer that has delivered nothing and begins at next_seq.
    pub fn new(
        stream: &str,
        name: &str,
        policy: AckPolicy,
        options: Options,
        flow_control: bool,
        next_seq: u64,
    ) -> Self {
        let next_seq = next_seq.max(1);
        let start = Position { stream_seq: next_seq - 1, ..Position::default() };
        let mut consumer = Self {
            policy,
            options: Options::default(),
            next_seq,
            num_pending: 0,
            delivered: start,
            floor: start,
            pending: Pending::default(),
            waits: Waits::default(),
            exhausted: BTreeMap::new(),
            redelivered: 0,
            requests: Requests::default(),
            flow: flow_control.then(|| Flow::new(stream, name)),
            subject: AckSubject::new(stream, name),
            sizes: Vec::new(),
            memo: (Vec::new(), false),
        };
        consumer.configure(options);
        consumer
    }

    /// What is configured.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Change the options. Waits that run are shifted by the change of the wait.
    pub fn configure(&mut self, options: Options) {
        let before = std::mem::replace(&mut self.options, options);
        let now = &self.options;
        if before.ack_wait_ns != now.ack_wait_ns || before.backoff_ns != now.backoff_ns {
            for entry in self.pending.iter_mut() {
                if let Wait::Until(deadline) = &mut entry.wait {
                    let shift = now.wait_ns(entry.deliveries).saturating_sub(before.wait_ns(entry.deliveries));
                    *deadline = deadline.saturating_add(shift);
                }
            }
            self.waits.rebuild(&self.pending);
        }
        // A memo of an empty subject, which no record has, never applies.
        self.memo.0.clear();
    }

    /// Stream sequence to look at next.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Skip ahead; back goes only `reset`.
    pub fn set_next_seq(&mut self, sequence: u64) {
        // What was delivered lies below, or the pending table would lose its order.
        self.next_seq = sequence.max(self.delivered.stream_seq + 1);
    }

    /// The last delivery: the stream sequence is the highest one, redeliveries only move the consumer's.
    pub fn delivered(&self) -> Position {
        self.delivered
    }

    /// Everything up to here is settled.
    pub fn ack_floor(&self) -> Position {
        self.floor
    }

    /// Messages that match and were never delivered.
    pub fn num_pending(&self) -> u64 {
        self.num_pending
    }

    /// The owner knows the log and tells what is left.
    pub fn set_num_pending(&mut self, count: u64) {
        self.num_pending = count;
    }

    /// Messages that wait for an ack.
    pub fn num_ack_pending(&self) -> usize {
        self.pending.len()
    }

    /// Messages delivered more than once and not settled.
    pub fn num_redelivered(&self) -> u64 {
        self.redelivered
    }

    /// Waiting pull requests.
    pub fn num_waiting(&self) -> usize {
        self.requests.len()
    }

    /// Messages in the redelivery queue.
    pub fn num_queued(&self) -> usize {
        self.waits.queued()
    }

    /// Messages that the waiting pull requests still ask for.
    pub fn demand(&self) -> u64 {
        self.requests.demand()
    }

    /// Whether max_ack_pending holds back new messages.
    pub fn at_limit(&self) -> bool {
        let limit = self.options.max_ack_pending;
        limit > 0 && self.pending.len() as u64 >= limit.unsigned_abs()
    }

    /// Pending messages, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Entry> {
        self.pending.iter()
    }

    /// Begin anew at a sequence: nothing is pending, deliveries are counted from 1.
    pub fn reset(&mut self, sequence: u64) {
        self.next_seq = sequence.max(1);
        self.delivered = Position { stream_seq: self.next_seq - 1, ..Position::default() };
        self.floor = self.delivered;
        self.pending.clear();
        self.waits.clear();
        self.exhausted.clear();
        self.redelivered = 0;
    }

    // Redelivery.

    /// When `expire` has something to do next.
    pub fn deadline_ns(&mut self) -> Option<i64> {
        self.waits.next(&self.pending)
    }

    /// Stream sequences to deliver again, at most `limit`. They stay queued until delivered.
    pub fn due(&mut self, now_ns: i64, limit: usize) -> Vec<u64> {
        if self.deadline_ns().is_some_and(|deadline| deadline <= now_ns) {
            self.queue_expired(now_ns);
        }
        self.waits.first_queued(&self.pending, limit)
    }

    /// Move what waited long enough to the redelivery queue, in the order of the stream. Returns what has reached
    /// max_deliver instead, (stream_seq, deliveries): it isn't pending any more.
    pub fn expire(&mut self, now_ns: i64) -> Vec<(u64, u32)> {
        let mut exhausted = Vec::new();
        for seq in self.waits.expired(&self.pending, now_ns) {
            if self.pending.get(seq).is_some_and(|entry| self.used_up(entry.deliveries)) {
                exhausted.extend(self.exhaust(seq).map(|entry| (seq, entry.deliveries)));
            } else {
                self.waits.enqueue(&mut self.pending, seq);
            }
        }
        exhausted
    }

    /// As `expire`, but what is used up goes on waiting for that call, which tells of it.
    fn queue_expired(&mut self, now_ns: i64) {
        for seq in self.waits.expired(&self.pending, now_ns) {
            match self.pending.get(seq) {
                Some(Entry { wait: Wait::Until(deadline), deliveries, .. }) if self.used_up(*deliveries) => {
                    self.waits.arm(&self.pending, *deadline, seq, true);
                }
                _ => self.waits.enqueue(&mut self.pending, seq),
            }
        }
    }

    fn used_up(&self, deliveries: u32) -> bool {
        let limit = self.options.max_deliver;
        limit > 0 && u64::from(deliveries) >= limit.unsigned_abs()
    }

    fn exhaust(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.pending.remove(seq)?;
        self.waits.settled(&entry);
        let Entry { consumer_seq, deliveries, .. } = entry;
        self.exhausted.insert(seq, Exhausted { consumer_seq, deliveries });
        if self.exhausted.len() > EXHAUSTED_MAX {
            if let Some((_, oldest)) = self.exhausted.pop_first() {
                self.redelivered -= u64::from(oldest.deliveries > 1);
            }
        }
        Some(entry)
    }

    // Settling.

    /// A message needs no more deliveries. None: it wasn't pending. `raise_floor` follows once a batch is through.
    #[inline]
    fn settle(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.pending.remove(seq)?;
        self.waits.settled(&entry);
        self.redelivered -= u64::from(entry.deliveries > 1);
        Some(entry)
    }

    /// The same for a message that was given up before.
    fn settle_exhausted(&mut self, seq: u64) -> bool {
        match self.exhausted.remove(&seq) {
            Some(entry) => {
                self.redelivered -= u64::from(entry.deliveries > 1);
                true
            }
            None => false,
        }
    }

    /// Settle everything below a sequence, oldest first.
    fn settle_below(&mut self, seq: u64, mut each: impl FnMut(Entry)) {
        while let Some(first) = self.pending.first().map(|entry| entry.stream_seq).filter(|first| *first < seq) {
            if let Some(entry) = self.settle(first) {
                each(entry);
            }
        }
    }

    /// Move the ack floor up to what is unsettled first. It never goes back.
    fn raise_floor(&mut self) {
        if self.pending.is_empty() {
            self.floor.consumer_seq = self.delivered.consumer_seq;
            self.floor.stream_seq = self.delivered.stream_seq.max(self.floor.stream_seq);
            return;
        }
        let pending = self.pending.first().map(|entry| (entry.stream_seq, entry.consumer_seq));
        let given_up = match self.exhausted.is_empty() {
            true => None,
            false => self.exhausted.range(self.floor.stream_seq + 1..).next(),
        };
        let given_up = given_up.map(|(seq, entry)| (*seq, entry.consumer_seq));
        if let Some((stream_seq, consumer_seq)) = pending.into_iter().chain(given_up).min() {
            self.floor.stream_seq = self.floor.stream_seq.max(stream_seq - 1);
            self.floor.consumer_seq = self.floor.consumer_seq.max(consumer_seq - 1);
        }
    }

    /// Messages deleted from the stream are settled. Returns those that were pending.
    pub fn forget(&mut self, sequences: &[u64]) -> Vec<Entry> {
        let mut gone = Vec::new();
        for seq in sequences {
            match self.settle(*seq) {
                Some(entry) => gone.push(entry),
                None => _ = self.settle_exhausted(*seq),
            }
        }
        if !gone.is_empty() {
            self.raise_floor();
        }
        gone
    }

    /// The same for everything below a sequence; next_seq moves up to it.
    pub fn forget_below(&mut self, sequence: u64) -> Vec<Entry> {
        let mut gone = Vec::new();
        self.settle_below(sequence, |entry| gone.push(entry));
        self.drop_exhausted_below(sequence);
        self.next_seq = self.next_seq.max(sequence);
        if !gone.is_empty() {
            self.raise_floor();
        }
        gone
    }

    /// All below a sequence was purged: it counts as delivered, and as settled if nothing is pending. `forget` has told
    /// of what was.
    pub fn purged(&mut self, sequence: u64) {
        let last = sequence.saturating_sub(1);
        self.drop_exhausted_below(sequence);
        self.next_seq = self.next_seq.max(sequence);
        self.delivered.stream_seq = self.delivered.stream_seq.max(last);
        if self.pending.is_empty() {
            self.floor.consumer_seq = self.delivered.consumer_seq;
            self.floor.stream_seq = self.floor.stream_seq.max(self.delivered.stream_seq);
        }
    }

    fn drop_exhausted_below(&mut self, sequence: u64) {
        while let Some(first) = self.exhausted.first_entry().filter(|first| *first.key() < sequence) {
            self.redelivered -= u64::from(first.remove().deliveries > 1);
        }
    }

    // Requests.

    /// Queue a pull request. False: max_waiting is reached.
    pub fn request(&mut self, inbox: &[u8], ask: Ask, now_ns: i64) -> bool {
        let limit = self.options.max_waiting;
        if limit > 0 && self.requests.len() as u64 >= limit.unsigned_abs() {
            return false;
        }
        self.requests.push(inbox, ask, now_ns);
        true
    }

    /// End every waiting request with a status line.
    pub fn requests_end(&mut self, hub: &mut dyn Publisher, account: &str, line: &str, counts: bool) -> usize {
        self.requests.end_all(hub, account, line, counts)
    }

    /// The inboxes of waiting requests.
    pub fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        self.requests.inboxes()
    }

    /// Timeouts, heartbeats, and requests that nobody waits for. Returns when something is due next.
    pub fn requests_tick(&mut self, hub: &mut dyn Publisher, account: &str, now_ns: i64) -> Option<i64> {
        self.requests.tick(hub, account, now_ns, (self.delivered.consumer_seq, self.delivered.stream_seq))
    }

    /// The end of the log is reached: end the no_wait requests that needn't wait longer.
    pub fn requests_drained(&mut self, hub: &mut dyn Publisher, account: &str) {
        self.requests.drained(hub, account);
    }

    // Push.

    /// A client answered a flow control request. False: it isn't the open one.
    pub fn flow_answered(&mut self, subject: &[u8]) -> bool {
        self.flow.as_mut().is_some_and(|flow| flow.answered(subject))
    }

    /// Interest in the deliver subject came or went: nothing is on its way any more.
    pub fn flow_reset(&mut self) {
        if let Some(flow) = &mut self.flow {
            flow.reset();
        }
    }

    /// Send a heartbeat to the deliver subject.
    pub fn heartbeat(&self, hub: &mut dyn Publisher, account: &str, to: &[u8]) {
        let mut status = requests::idle((self.delivered.consumer_seq, self.delivered.stream_seq));
        if let Some(stalled) = self.flow.as_ref().and_then(Flow::stalled) {
            status = status.text("Nats-Consumer-Stalled", stalled);
        }
        status.send(hub, account, to, b"");
    }

    /// Whether the filters let a subject through.
    #[inline]
    fn wants(&mut self, given: &[u8]) -> bool {
        if self.options.filters.is_empty() {
            return true;
        }
        if self.memo.0 != given || given.is_empty() {
            self.memo.1 = self.options.filters.iter().any(|filter| subject::matches(filter.as_bytes(), given));
            self.memo.0.clear();
            self.memo.0.extend_from_slice(given);
        }
        self.memo.1
    }
}
