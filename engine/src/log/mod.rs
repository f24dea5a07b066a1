//! The log of a stream: which message gets which sequence, what the limits remove, which message id was seen.
//!
//! A deterministic machine that knows subjects, counts and sequences, never payloads. Records of the past come as
//! arguments. Source: nats-server 2.15.2.

pub mod admission;
mod admit;
pub mod block;
pub mod checkpoint;
pub mod dedupe;
pub mod direct;
pub mod headers;
pub mod index;
mod journal;
pub mod query;
pub mod sequences;
mod varint;

use crate::codec::puback::PubAck;
use crate::codec::record::{self, Corrupt, Record};
use crate::codec::stan;
use dedupe::Dedupe;
use index::Index;
use journal::Journal;
use sequences::SequenceSet;

pub use admission::Admission;

/// Limits of a stream as in the StreamConfig of the JetStream API. Negative numbers mean none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages held.
    pub max_msgs: i64,
    /// Bytes held, counted as in `StreamState::bytes`.
    pub max_bytes: i64,
    /// Messages held of each subject.
    pub max_msgs_per_subject: i64,
    /// Bytes of headers and body together.
    pub max_msg_size: i64,
    /// Age, 0 for none.
    pub max_age_ns: i64,
    /// Refuse what exceeds max_msgs or max_bytes instead of removing the oldest.
    pub discard_new: bool,
    /// The same for max_msgs_per_subject.
    pub discard_new_per_subject: bool,
    /// How long message ids are remembered, 0 for not at all.
    pub duplicate_window_ns: i64,
    /// Publishers get no acks.
    pub no_ack: bool,
    /// Nats-Rollup is honoured.
    pub allow_rollup: bool,
    /// Nothing may be purged, rollups included.
    pub deny_purge: bool,
    /// Nothing may be stored any more.
    pub sealed: bool,
    /// Limits of count and bytes never remove the newest message, as in NATS Streaming.
    pub keep_newest: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            max_msg_size: -1,
            max_age_ns: 0,
            discard_new: false,
            discard_new_per_subject: false,
            duplicate_window_ns: 0,
            no_ack: false,
            allow_rollup: false,
            deny_purge: false,
            sealed: false,
            keep_newest: false,
        }
    }
}

impl Limits {
    /// Whether every subject must know all its sequences: removals then need no read.
    pub fn needs_queues(&self) -> bool {
        self.max_msgs_per_subject > 0 || self.allow_rollup
    }
}

/// What a stream is made with and keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Account whose subjects its acks go to.
    pub account: String,
    /// Kept in memory: messages are counted differently.
    pub memory: bool,
    /// Sequence of the first message.
    pub first_seq: u64,
    /// Length of the channel's name if this is one of NATS Streaming, whose way of counting bytes then holds; else 0.
    pub channel_len: usize,
}

impl Default for Identity {
    fn default() -> Identity {
        Identity { name: String::new(), account: "$G".to_owned(), memory: false, first_seq: 1, channel_len: 0 }
    }
}

/// The state of one stream.
#[derive(Debug)]
pub struct StreamState {
    identity: Identity,
    limits: Limits,
    acks: std::sync::Arc<PubAck>,
    index: Index,
    // Interior deletes; after a restore they may lie beyond last_seq until the records behind them are replayed.
    deleted: SequenceSet,
    dedupe: Dedupe,
    journal: Journal,
    restored: Option<checkpoint::Totals>,
    // A replayed record contradicted what was known of deletions.
    disagrees: bool,
    messages: u64,
    bytes: u64,
    // first_seq is the first live sequence, or last_seq + 1 when nothing is live.
    first_seq: u64,
    last_seq: u64,
    first_ts_ns: i64,
    last_ts_ns: i64,
    // Message id of the last message, empty if it had none.
    last_id: Vec<u8>,
}

impl StreamState {
    /// An empty stream.
    pub fn new(identity: Identity, limits: Limits) -> StreamState {
        let first_seq = identity.first_seq.max(1);
        StreamState {
            acks: std::sync::Arc::new(PubAck::new(&identity.name)),
            index: Index::new(limits.needs_queues()),
            deleted: SequenceSet::default(),
            dedupe: Dedupe::default(),
            journal: Journal::new(first_seq),
            restored: None,
            disagrees: false,
            messages: 0,
            bytes: 0,
            first_seq,
            last_seq: first_seq - 1,
            first_ts_ns: 0,
            last_ts_ns: 0,
            last_id: Vec::new(),
            identity,
            limits,
        }
    }

    /// New limits. True: the state lacks the queues that they need, so `rebuild` must follow.
    pub fn configure(&mut self, limits: Limits) -> bool {
        self.limits = limits;
        if self.limits.duplicate_window_ns <= 0 {
            self.dedupe = Dedupe::default();
        }
        if self.messages == 0 && self.limits.needs_queues() != self.index.queued() {
            self.journal.flush(&mut self.index);
            self.index = Index::new(self.limits.needs_queues());
        }
        self.limits.needs_queues() && !self.index.queued()
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Name, account and kind.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Messages held.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// First live sequence, last + 1 when empty; 0 when nothing was ever stored from 1 on.
    pub fn first_seq(&self) -> u64 {
        if self.last_seq == 0 && self.first_seq == 1 {
            return 0;
        }
        self.first_seq
    }

    /// Last sequence given.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Timestamp of the first message; 0 when unknown or empty.
    pub fn first_ts_ns(&self) -> i64 {
        self.first_ts_ns
    }

    /// Timestamp of the last message stored.
    pub fn last_ts_ns(&self) -> i64 {
        self.last_ts_ns
    }

    /// Tell the timestamp of the first message; of no effect if another is the first.
    pub fn note_first(&mut self, sequence: u64, timestamp_ns: i64) {
        if self.messages > 0 && sequence == self.first_seq {
            self.first_ts_ns = timestamp_ns;
        }
    }

    /// Whether max_msgs or max_bytes is exceeded.
    pub fn over(&self) -> bool {
        self.exceeds(self.messages, self.bytes)
    }

    fn exceeds(&self, messages: u64, bytes: u64) -> bool {
        // Discard new refuses, it never removes: not even when the limit was lowered.
        if self.limits.discard_new || (self.limits.keep_newest && messages <= 1) {
            return false;
        }
        let above = |limit: i64, value: u64| limit > 0 && value > limit as u64;
        above(self.limits.max_msgs, messages) || above(self.limits.max_bytes, bytes)
    }

    /// What a message counts for in `bytes`: nats-server's file form, or its memory form; in a channel the same of
    /// nats-streaming-server, where of the headers only the `reply` counts.
    fn size_of(&self, sequence: u64, subject: usize, headers: usize, reply: usize, payload: usize) -> u64 {
        if self.identity.channel_len > 0 {
            let index = if self.identity.memory { 0 } else { stan::INDEX_ENTRY };
            return (stan::message_len(sequence, self.identity.channel_len, reply, payload) + index) as u64;
        }
        let fixed = match (self.identity.memory, headers) {
            (true, _) => 16,
            (false, 0) => 30,
            (false, _) => 34,
        };
        (fixed + subject + headers + payload) as u64
    }

    /// Length of the reply subject that a message of a channel was published with.
    fn reply_len(&self, headers: &[u8]) -> usize {
        match self.identity.channel_len {
            0 => 0,
            _ => stan::reply(headers).map_or(0, <[u8]>::len),
        }
    }

    fn record_size(&self, record: &Record<'_>) -> u64 {
        let reply = self.reply_len(record.headers);
        self.size_of(record.sequence, record.subject.len(), record.headers.len(), reply, record.payload.len())
    }

    /// Whether a sequence is stored and not deleted.
    pub fn live(&self, sequence: u64) -> bool {
        sequence >= self.first_seq && sequence <= self.last_seq && !self.deleted.contains(sequence)
    }

    /// Remove from the front what exceeds the limits or the age or lies below `below_seq`. `values` are the first records
    /// of the log; those that are dead already go along. Nothing changes if one of them is corrupt.
    ///
    /// Returns (how many go, the first timestamp left among them or 0).
    pub fn trim(&mut self, values: &[&[u8]], now_ns: i64, below_seq: u64) -> Result<(usize, i64), Corrupt> {
        let oldest_ns =
            if self.limits.max_age_ns > 0 { now_ns.saturating_sub(self.limits.max_age_ns) } else { i64::MIN };
        let (mut messages, mut bytes, mut expected) = (self.messages, self.bytes, self.first_seq);
        let mut going = Vec::new();
        let (mut count, mut left_ns) = (0, 0);
        for (place, value) in values.iter().enumerate() {
            let record = record::decode(value)?;
            if !self.live(record.sequence) {
                continue;
            }
            if record.sequence != expected {
                return Err(Corrupt(format!("sequence {expected} is missing")));
            }
            let due = record.sequence < below_seq || record.timestamp_ns < oldest_ns;
            if !due && !self.exceeds(messages, bytes) {
                left_ns = record.timestamp_ns;
                break;
            }
            let size = self.record_size(&record);
            if self.index.find(record.subject).is_none() || messages == 0 {
                return Err(Corrupt(format!("sequence {expected}: its subject is not in the index")));
            }
            messages -= 1;
            bytes = bytes.saturating_sub(size);
            expected = self.deleted.next_absent(record.sequence + 1);
            going.push((record, size));
            count = place + 1;
        }
        for (record, size) in going {
            if let Some(slot) = self.index.find(record.subject) {
                self.drop_message(slot, record.sequence, size);
            }
        }
        if left_ns != 0 && self.messages > 0 {
            self.first_ts_ns = left_ns;
        }
        Ok((count, left_ns))
    }

    /// Account for records that are deleted, wherever they lie; those that are dead already count nothing.
    pub fn remove(&mut self, values: &[&[u8]]) -> Result<u64, Corrupt> {
        let records = values.iter().map(|value| record::decode(value)).collect::<Result<Vec<_>, _>>()?;
        let mut removed = 0;
        for record in records {
            let Some(slot) = self.index.find(record.subject).filter(|_| self.live(record.sequence)) else { continue };
            let size = self.record_size(&record);
            removed += size;
            self.drop_message(slot, record.sequence, size);
        }
        Ok(removed)
    }

    /// One live message leaves.
    fn drop_message(&mut self, slot: u32, sequence: u64, size: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        self.journal.message_removed(&mut self.index, slot, sequence, size);
        if self.index.remove(slot, sequence) {
            self.journal.subject_released(&self.index, slot);
            self.index.release(slot);
        }
        if self.messages == 0 {
            self.first_seq = self.last_seq + 1;
            self.first_ts_ns = 0;
            self.deleted.clear();
        } else if sequence == self.first_seq {
            self.first_seq = self.deleted.next_absent(sequence + 1);
            self.first_ts_ns = 0;
            self.deleted.remove_below(self.first_seq);
        } else {
            self.deleted.insert(sequence);
            self.journal.deleted(sequence);
        }
    }

    /// Purge all: nothing is left, the next message gets `next_seq`. Message ids are kept.
    pub fn reset(&mut self, next_seq: u64) {
        let next_seq = next_seq.max(1);
        self.index = Index::new(self.limits.needs_queues());
        self.deleted.clear();
        self.journal.reset(next_seq);
        (self.messages, self.bytes, self.first_ts_ns) = (0, 0, 0);
        (self.first_seq, self.last_seq) = (next_seq, next_seq - 1);
    }

    /// Forget the message ids that are out of the window by a time: before another window comes into force, which might
    /// take them in again.
    pub fn expire_ids(&mut self, now_ns: i64) {
        self.dedupe.expire(now_ns.max(self.last_ts_ns), self.limits.duplicate_window_ns);
    }

    /// Remember the message ids of segments, oldest first, that are still within the window. After a restore that is as of
    /// `last_ts_ns`: then what is known is what the machine knew that stored them.
    pub fn replay_ids(&mut self, segment: &[u8], now_ns: i64) -> Result<(), Corrupt> {
        self.dedupe.replay(segment, now_ns, self.limits.duplicate_window_ns)
    }

    /// All message ids of the window as one segment, empty if there are none.
    pub fn ids(&self) -> Vec<u8> {
        self.dedupe.segment()
    }

    /// Whether a stored segment of message ids may be dropped.
    pub fn ids_expired(&self, segment: &[u8], now_ns: i64) -> Result<bool, Corrupt> {
        dedupe::segment_expired(segment, now_ns, self.limits.duplicate_window_ns)
    }
}
