//! Check and number a batch, encode its records, remember what to answer.

use super::*;
use crate::batch::{Batch, Message};
use crate::codec::puback::Refusal;
use crate::log::admission::{Admission, Answer};
use crate::log::block::Block;
use crate::log::headers::{self, Wishes};
use crate::log::index::Filters;
use crate::subject;

/// Longest header block that a message may have.
const HEADERS_MAX: usize = u16::MAX as usize;

/// Spans of a header block that are not stored, ascending.
type Cuts = [(usize, usize); 2];

/// What a checked message asks for beyond being stored.
enum Verdict<'a> {
    Store { id: &'a [u8], rollup: Rollup, size: u64, cuts: Cuts },
    Duplicate(u64),
    Refuse(Refusal),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rollup {
    No,
    Subject,
    All,
}

const SEALED: Refusal = Refusal::fixed(400, 10109, "invalid operation on sealed stream");
const TOO_LARGE: Refusal = Refusal::fixed(400, 10054, "message size exceeds maximum allowed");
const HEADERS_TOO_LARGE: Refusal = Refusal::fixed(400, 10097, "header size exceeds maximum allowed of 64k");
const SUBJECT_TOO_LONG: Refusal = Refusal::fixed(503, 10077, "subject exceeds maximum length");
const NO_COUNTERS: Refusal = Refusal::fixed(400, 10168, "message counters is disabled");
const NO_BATCHES: Refusal = Refusal::fixed(400, 10174, "atomic publish is disabled");
const NO_SOURCE: Refusal = Refusal::fixed(400, 10227, "message stream source header is not allowed");
const NO_TTL: Refusal = Refusal::fixed(400, 10166, "per-message TTL is disabled");
const NO_SCHEDULES: Refusal = Refusal::fixed(400, 10188, "message schedules is disabled");
const WRONG_STREAM: Refusal = Refusal::fixed(400, 10060, "expected stream does not match");
const SUBJECT_ALONE: Refusal = Refusal::fixed(400, 10193, "missing sequence for expected last sequence per subject");
const NOT_READY: Refusal = Refusal::fixed(503, 10163, "expected last sequence per subject temporarily unavailable");
const NO_ROLLUP: Refusal = Refusal::fixed(500, 10111, "rollup not permitted");
const MANY_MESSAGES: Refusal = Refusal::fixed(503, 10077, "maximum messages exceeded");
const MANY_BYTES: Refusal = Refusal::fixed(503, 10077, "maximum bytes exceeded");
const MANY_PER_SUBJECT: Refusal = Refusal::fixed(503, 10077, "maximum messages per subject exceeded");

fn length_of(cuts: Cuts) -> usize {
    cuts.iter().map(|(from, to)| to - from).sum()
}

fn wrong_sequence(actual: u64) -> Refusal {
    Refusal { code: 400, err_code: 10071, description: format!("wrong last sequence: {actual}").into() }
}

impl StreamState {
    /// Check and number a batch; the state changes at once. The timestamp never falls behind the last one, so that age
    /// and sequence keep the same order.
    pub fn admit(&mut self, batch: &Batch, now_ns: i64) -> Admission {
        let timestamp_ns = now_ns.max(self.last_ts_ns);
        let block = Block::with_capacity(batch.len(), batch.size() + batch.len() * record::FIXED);
        let mut admission = Admission::new(block, self.acks.clone(), self.identity.account.clone());
        for message in batch.iter() {
            let reply = if self.limits.no_ack { b"" } else { message.reply };
            match self.check_message(&message, timestamp_ns) {
                Verdict::Store { id, rollup, size, cuts } => {
                    let sequence = self.store(&mut admission, &message, timestamp_ns, size, cuts);
                    self.remember(&mut admission, id, sequence, timestamp_ns);
                    self.make_room(&mut admission, message.subject, sequence, rollup);
                    admission.answer(reply, message.guid, Answer::Stored(sequence));
                }
                Verdict::Duplicate(sequence) => {
                    admission.duplicates += 1;
                    admission.answer(reply, message.guid, Answer::Duplicate(sequence));
                }
                Verdict::Refuse(refusal) => admission.refuse_message(reply, message.guid, refusal),
            }
        }
        admission.deletes.sort_unstable();
        admission.ids = std::mem::take(&mut admission.segment).finish();
        admission.over = self.over();
        admission.block.shrink();
        admission
    }

    fn store(
        &mut self,
        admission: &mut Admission,
        message: &Message<'_>,
        timestamp_ns: i64,
        size: u64,
        cuts: Cuts,
    ) -> u64 {
        let sequence = self.last_seq + 1;
        let stripped;
        let mut headers = message.headers;
        if length_of(cuts) > 0 {
            let [(first, first_end), (second, second_end)] = cuts;
            let second = second.max(first_end);
            let second_end = second_end.max(second);
            stripped = [&headers[..first], &headers[first_end..second], &headers[second_end..]].concat();
            headers = &stripped;
        }
        let (subject, payload) = (message.subject, message.payload);
        admission.block.push(&Record { sequence, timestamp_ns, subject, headers, payload });
        if admission.first_seq == 0 {
            admission.first_seq = sequence;
            // Only along with what is stored, as that is all that a restart knows of the time.
            self.dedupe.expire(timestamp_ns, self.limits.duplicate_window_ns);
        }
        admission.last_seq = sequence;
        admission.stored += 1;
        let slot = self.index.find_or_insert(subject);
        self.index.add(slot, sequence, size as u32);
        if self.messages == 0 {
            self.first_ts_ns = timestamp_ns;
        }
        self.messages += 1;
        self.bytes += size;
        self.last_seq = sequence;
        self.last_ts_ns = timestamp_ns;
        sequence
    }

    fn remember(&mut self, admission: &mut Admission, id: &[u8], sequence: u64, timestamp_ns: i64) {
        // Asked first, as comparing nothing with nothing is slow: an empty vector points to no memory, and a processor that reads
        // there, if only none of it, takes 50 ns to find out.
        if !(id.is_empty() && self.last_id.is_empty()) {
            self.last_id.clear();
            self.last_id.extend_from_slice(id);
        }
        if !id.is_empty() && self.limits.duplicate_window_ns > 0 {
            self.dedupe.insert(id, sequence, timestamp_ns);
            admission.segment.push(id, sequence, timestamp_ns);
        }
    }

    /// Remove what a stored message replaces: by its rollup, or by the limit of its subject.
    fn make_room(&mut self, admission: &mut Admission, subject: &[u8], sequence: u64, rollup: Rollup) {
        if rollup == Rollup::All {
            return self.roll_all_up(admission, subject, sequence);
        }
        let limit = match (rollup, self.limits.max_msgs_per_subject) {
            (Rollup::No, limit) if limit <= 0 => return,
            (Rollup::No, limit) => limit as u64,
            _ => 1,
        };
        let Some(slot) = self.index.find(subject).filter(|_| self.index.queued()) else { return };
        while self.index.entry(slot).count > limit {
            let Some((oldest, size)) = self.index.queue(slot).and_then(|queue| queue.front().copied()) else { break };
            self.drop_message(slot, oldest, u64::from(size));
            admission.supersede(oldest);
        }
    }

    fn roll_all_up(&mut self, admission: &mut Admission, subject: &[u8], sequence: u64) {
        let (size, timestamp_ns) = match self.index.find(subject) {
            Some(slot) => (self.index.entry(slot).size, self.last_ts_ns),
            None => return,
        };
        if self.messages > 1 {
            self.reset(sequence);
            let slot = self.index.find_or_insert(subject);
            self.index.add(slot, sequence, size);
            (self.messages, self.bytes) = (1, u64::from(size));
            (self.last_seq, self.first_ts_ns) = (sequence, timestamp_ns);
        }
        admission.block.remove_range(admission.first_seq, sequence);
        admission.deletes.clear();
        admission.purges.clear();
        admission.purges.push((Vec::new(), sequence));
    }

    fn check_message<'a>(&self, message: &Message<'a>, timestamp_ns: i64) -> Verdict<'a> {
        let wishes = if message.headers.is_empty() { Wishes::default() } else { headers::parse(message.headers) };
        if wishes.batch {
            return Verdict::Refuse(NO_BATCHES);
        }
        if self.limits.sealed {
            return Verdict::Refuse(SEALED);
        }
        let body = message.headers.len() + message.payload.len();
        // The index counts sizes in 32 bits.
        if (self.limits.max_msg_size >= 0 && body as u64 > self.limits.max_msg_size as u64) || body > i32::MAX as usize
        {
            return Verdict::Refuse(TOO_LARGE);
        }
        if message.headers.len() > HEADERS_MAX {
            return Verdict::Refuse(HEADERS_TOO_LARGE);
        }
        if message.subject.len() > record::SUBJECT_MAX {
            return Verdict::Refuse(SUBJECT_TOO_LONG);
        }
        let id = wishes.id.unwrap_or_default();
        let mut rollup = Rollup::No;
        if !message.headers.is_empty() {
            if let Some(refusal) = self.check_expectations(message, &wishes) {
                return Verdict::Refuse(refusal);
            }
            if !id.is_empty() && self.limits.duplicate_window_ns > 0 {
                if let Some(sequence) = self.dedupe.find(id, timestamp_ns, self.limits.duplicate_window_ns) {
                    return Verdict::Duplicate(sequence);
                }
            }
            if wishes.last_id.is_some_and(|last_id| last_id != self.last_id) {
                let last_id = String::from_utf8_lossy(&self.last_id);
                let description = format!("wrong last msg ID: {last_id}").into();
                return Verdict::Refuse(Refusal { code: 400, err_code: 10070, description });
            }
            rollup = match self.check_rollup(wishes.rollup) {
                Ok(rollup) => rollup,
                Err(refusal) => return Verdict::Refuse(refusal),
            };
        }
        let headers = message.headers.len() - length_of(wishes.cuts);
        let reply = self.reply_len(message.headers);
        let size = self.size_of(self.last_seq + 1, message.subject.len(), headers, reply, message.payload.len());
        match self.check_limits(message.subject, size) {
            Some(refusal) => Verdict::Refuse(refusal),
            None => Verdict::Store { id, rollup, size, cuts: wishes.cuts },
        }
    }

    fn check_expectations(&self, message: &Message<'_>, wishes: &Wishes<'_>) -> Option<Refusal> {
        if wishes.incr {
            return Some(NO_COUNTERS);
        }
        if wishes.source {
            return Some(NO_SOURCE);
        }
        if wishes.stream.is_some_and(|stream| stream != self.identity.name.as_bytes()) {
            return Some(WRONG_STREAM);
        }
        if wishes.ttl {
            return Some(NO_TTL);
        }
        match wishes.last_subject_seq {
            None if wishes.last_subject.is_some() => return Some(SUBJECT_ALONE),
            None => {}
            Some(expected) => match self.last_matching(wishes.last_subject.unwrap_or(message.subject)) {
                (_, false) => return Some(NOT_READY),
                (actual, true) if actual != expected => return Some(wrong_sequence(actual)),
                _ => {}
            },
        }
        if wishes.last_seq.is_some_and(|expected| expected != self.last_seq) {
            return Some(wrong_sequence(self.last_seq));
        }
        wishes.schedule.then_some(NO_SCHEDULES)
    }

    fn check_rollup(&self, rollup: Option<&[u8]>) -> Result<Rollup, Refusal> {
        let Some(rollup) = rollup else { return Ok(Rollup::No) };
        if !self.limits.allow_rollup || self.limits.deny_purge {
            return Err(NO_ROLLUP);
        }
        match rollup {
            value if value.eq_ignore_ascii_case(b"sub") => Ok(Rollup::Subject),
            value if value.eq_ignore_ascii_case(b"all") => Ok(Rollup::All),
            _ => {
                let description = format!("rollup value invalid: {:?}", String::from_utf8_lossy(rollup)).into();
                Err(Refusal { code: 500, err_code: 10111, description })
            }
        }
    }

    /// What discard new refuses. A message that replaces the oldest of its subject needs only the room that is added.
    fn check_limits(&self, subject: &[u8], size: u64) -> Option<Refusal> {
        let limits = &self.limits;
        if !limits.discard_new {
            return None;
        }
        let mut freed = None;
        if limits.max_msgs_per_subject > 0 {
            let full = |slot: &u32| self.index.entry(*slot).count >= limits.max_msgs_per_subject as u64;
            if let Some(slot) = self.index.find(subject).filter(full) {
                if limits.discard_new_per_subject {
                    return Some(MANY_PER_SUBJECT);
                }
                let entry = self.index.entry(slot);
                let oldest =
                    self.index.queue(slot).and_then(|queue| queue.front()).map_or(entry.size, |(_, size)| *size);
                freed = Some(u64::from(oldest));
            }
        }
        if limits.max_msgs > 0 && freed.is_none() && self.messages >= limits.max_msgs as u64 {
            return Some(MANY_MESSAGES);
        }
        let bytes = (self.bytes + size).saturating_sub(freed.unwrap_or(0));
        (limits.max_bytes > 0 && bytes > limits.max_bytes as u64).then_some(MANY_BYTES)
    }

    /// The last sequence of the messages that match (0: none), and whether that is sure.
    pub(super) fn last_matching(&self, filter: &[u8]) -> (u64, bool) {
        if !subject::is_pattern(filter) {
            let entry = self.index.find(filter).map(|slot| self.index.entry(slot));
            return entry.map_or((0, true), |entry| (entry.last, entry.exact));
        }
        let slots = self.index.matching(&Filters::new(&[filter]));
        let lasts = slots.iter().map(|slot| self.index.entry(*slot)).map(|entry| (entry.last, entry.exact));
        lasts.max().unwrap_or((0, true))
    }

    /// Subjects whose last sequence the expectations of a batch need and which have only a bound: the caller looks
    /// downwards for them and tells `note_last`, before it admits the batch.
    pub fn unresolved(&self, batch: &Batch) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        if self.index.inexact() == 0 {
            return found;
        }
        for message in batch.iter().filter(|message| !message.headers.is_empty()) {
            let wishes = headers::parse(message.headers);
            if wishes.last_subject_seq.is_none() {
                continue;
            }
            let filter = wishes.last_subject.unwrap_or(message.subject);
            for slot in self.index.matching(&Filters::new(&[filter])) {
                if !self.index.entry(slot).exact {
                    found.push(self.index.name(slot).to_vec());
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether a batch can be admitted while the log lacks messages that were admitted before: nothing of what they are, beyond
    /// what is known here, decides on it, and no limit removes the oldest.
    pub fn fits(&self, batch: &Batch) -> bool {
        let last = self.last_seq + batch.len() as u64;
        let bytes = if self.limits.max_bytes > 0 {
            let size = |message: Message<'_>| {
                let (subject, headers) = (message.subject.len(), message.headers.len());
                self.size_of(last, subject, headers, self.reply_len(message.headers), message.payload.len())
            };
            batch.iter().map(size).sum()
        } else {
            0
        };
        !self.exceeds(self.messages + batch.len() as u64, self.bytes + bytes) && self.unresolved(batch).is_empty()
    }

    /// Tell the last sequence of a subject, as found in the log; of no effect if it can't be that.
    pub fn note_last(&mut self, subject: &[u8], sequence: u64) {
        let Some(slot) = self.index.find(subject) else { return };
        let entry = self.index.entry(slot);
        if !entry.exact && sequence <= entry.last && self.live(sequence) {
            self.index.set_last(slot, sequence, true);
        }
    }
}
