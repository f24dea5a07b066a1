//! The state as bytes: a checkpoint, the removals since, and the totals; and the way back.
//!
//! The records behind the checkpoint are replayed. Their gaps must be deletions that removals told of, and the outcome must
//! equal the totals: so a lost record is found, and every state comes back exactly.

use super::*;
use crate::log::headers::message_id;
use crate::log::index::{Entry, Queue};
use crate::log::varint::{self, Reader};

const VERSION: u8 = 1;

/// The numbers that a restored state must come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    first_ts_ns: i64,
    last_ts_ns: i64,
    last_id: Vec<u8>,
}

impl Totals {
    fn push(&self, out: &mut Vec<u8>) {
        for number in [self.messages, self.bytes, self.first_seq, self.last_seq] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.first_ts_ns.to_le_bytes());
        out.extend_from_slice(&self.last_ts_ns.to_le_bytes());
        varint::push(out, self.last_id.len() as u64);
        out.extend_from_slice(&self.last_id);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Totals, Corrupt> {
        let totals = Totals {
            messages: reader.i64()? as u64,
            bytes: reader.i64()? as u64,
            first_seq: reader.i64()? as u64,
            last_seq: reader.i64()? as u64,
            first_ts_ns: reader.i64()?,
            last_ts_ns: reader.i64()?,
            last_id: reader.counted()?.to_vec(),
        };
        let end = totals.last_seq.checked_add(1);
        if totals.first_seq == 0 || end.is_none_or(|end| totals.first_seq > end) {
            return Err(reader.corrupt("sequences out of order"));
        }
        Ok(totals)
    }
}

fn push_runs(out: &mut Vec<u8>, runs: &[(u64, u64)]) {
    varint::push(out, runs.len() as u64);
    let mut from = 0;
    for (first, last) in runs {
        varint::push(out, first - from);
        varint::push(out, last - first);
        from = *last;
    }
}

fn read_runs(reader: &mut Reader<'_>, deleted: &mut SequenceSet, last_max: u64) -> Result<(), Corrupt> {
    let mut from = 0u64;
    for _ in 0..reader.varint()? {
        let first = from.checked_add(reader.varint()?);
        let last = first.and_then(|first| first.checked_add(reader.varint().ok()?));
        let (Some(first), Some(last)) = (first, last.filter(|last| *last <= last_max)) else {
            return Err(reader.corrupt("a run of deletions out of bounds"));
        };
        deleted.insert_range(first, last);
        from = last;
    }
    Ok(())
}

/// Sorted sequences as runs.
fn runs_of(sequences: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for sequence in sequences {
        match runs.last_mut() {
            Some(run) if *sequence <= run.1 + 1 => run.1 = *sequence,
            _ => runs.push((*sequence, *sequence)),
        }
    }
    runs
}

impl StreamState {
    fn totals(&self) -> Totals {
        Totals {
            messages: self.messages,
            bytes: self.bytes,
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            first_ts_ns: self.first_ts_ns,
            last_ts_ns: self.last_ts_ns,
            last_id: self.last_id.clone(),
        }
    }

    /// What changed since the last call: (totals, removals). Removals are empty if there were none.
    pub fn delta(&mut self) -> (Vec<u8>, Vec<u8>) {
        let mut totals = varint::block(VERSION);
        self.totals().push(&mut totals);
        varint::seal(&mut totals);
        (totals, self.removals())
    }

    fn removals(&mut self) -> Vec<u8> {
        let journal = &mut self.journal;
        if journal.told_first == self.first_seq && journal.deleted.is_empty() && journal.messages == 0 {
            return Vec::new();
        }
        journal.deleted.retain(|sequence| *sequence >= self.first_seq);
        journal.deleted.sort_unstable();
        let mut out = varint::block(VERSION);
        varint::push(&mut out, journal.reset.unwrap_or(0));
        varint::push(&mut out, self.first_seq);
        // Bounds what a damaged run of deletions may claim.
        varint::push(&mut out, self.last_seq);
        varint::push(&mut out, journal.messages);
        varint::push(&mut out, journal.bytes);
        push_runs(&mut out, &runs_of(&journal.deleted));
        journal.flush(&mut self.index);
        varint::push(&mut out, journal.released_len);
        out.extend_from_slice(&journal.released);
        varint::seal(&mut out);
        let (base, by_subject) = (journal.base, journal.by_subject);
        *journal = Journal { base, by_subject, told_first: self.first_seq, ..Journal::default() };
        out
    }

    /// The whole index up to last_seq, to be stored: removals refer to it from now on.
    pub fn checkpoint(&mut self) -> Vec<u8> {
        let out = self.snapshot();
        self.journal.checkpoint(&mut self.index, self.first_seq, self.last_seq);
        out
    }

    /// The same bytes for somebody else: removals refer to the checkpoint that is stored here, as before.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = varint::block(VERSION);
        out.reserve(self.index.names_len() + self.index.len() * 16);
        self.totals().push(&mut out);
        push_runs(&mut out, &self.deleted.runs().collect::<Vec<_>>());
        out.push(u8::from(self.index.queued()));
        varint::push(&mut out, self.index.len() as u64);
        varint::push(&mut out, self.index.names_len() as u64);
        for slot in self.index.slots() {
            self.push_subject(&mut out, slot);
        }
        varint::seal(&mut out);
        out
    }

    fn push_subject(&self, out: &mut Vec<u8>, slot: u32) {
        let (name, entry) = (self.index.name(slot), self.index.entry(slot));
        varint::push(out, name.len() as u64);
        out.extend_from_slice(name);
        varint::push(out, entry.count);
        match self.index.queue(slot) {
            Some(queue) => {
                let mut from = 0;
                for (sequence, size) in queue.iter().copied().chain([(entry.last, entry.size)]) {
                    varint::push(out, sequence - from);
                    varint::push(out, u64::from(size));
                    from = sequence;
                }
            }
            None => {
                varint::push(out, entry.first);
                varint::push(out, (entry.last - entry.first) << 1 | u64::from(entry.exact));
            }
        }
    }

    /// The state at a checkpoint (none: the empty stream) with the removals since. Returns it with the sequence from which
    /// on records must be replayed.
    pub fn restore<'a>(
        identity: Identity,
        limits: Limits,
        checkpoint: Option<&[u8]>,
        removals: impl Iterator<Item = &'a [u8]>,
        totals: Option<&[u8]>,
    ) -> Result<(StreamState, u64), Corrupt> {
        let mut state = StreamState::new(identity, limits);
        if let Some(checkpoint) = checkpoint {
            state.read_checkpoint(checkpoint)?;
        }
        for block in removals {
            if !block.is_empty() {
                state.read_removals(block)?;
            }
        }
        state.settle()?;
        if let Some(totals) = totals {
            let mut reader = varint::unseal(totals, "totals", VERSION)?;
            state.restored = Some(Totals::read(&mut reader)?);
        }
        state.journal.told_first = state.first_seq;
        let next =
            if state.limits.needs_queues() && !state.index.queued() { state.unindex() } else { state.journal.base + 1 };
        Ok((state, next))
    }

    /// Start over from all records, keeping what is known of deletions and message ids: when limits need queues that were
    /// not kept. Returns the sequence to replay from; `replayed` compares with the state as it was.
    pub fn rebuild(&mut self) -> u64 {
        self.restored = Some(self.totals());
        self.unindex()
    }

    fn unindex(&mut self) -> u64 {
        let first_seq = self.first_seq;
        self.journal.flush(&mut self.index);
        self.index = Index::new(self.limits.needs_queues());
        (self.messages, self.bytes, self.last_seq) = (0, 0, first_seq - 1);
        self.disagrees = false;
        first_seq
    }

    fn read_checkpoint(&mut self, block: &[u8]) -> Result<(), Corrupt> {
        let mut reader = varint::unseal(block, "checkpoint", VERSION)?;
        let totals = Totals::read(&mut reader)?;
        read_runs(&mut reader, &mut self.deleted, totals.last_seq)?;
        let queued = reader.byte()? != 0;
        let (subjects, names) = (reader.varint()? as usize, reader.varint()? as usize);
        self.index = Index::new(queued);
        // A subject takes at least four bytes here, so a damaged count can't ask for more memory than that.
        self.index.reserve(subjects.min(reader.len() / 4), names.min(reader.len()));
        for _ in 0..subjects {
            read_subject(&mut reader, &mut self.index, totals.last_seq)?;
        }
        if self.index.len() != subjects || !reader.is_empty() {
            return Err(reader.corrupt("subjects disagree with their count"));
        }
        (self.messages, self.bytes) = (totals.messages, totals.bytes);
        (self.first_seq, self.last_seq) = (totals.first_seq, totals.last_seq);
        (self.first_ts_ns, self.last_ts_ns, self.last_id) = (totals.first_ts_ns, totals.last_ts_ns, totals.last_id);
        (self.journal.base, self.journal.by_subject) = (self.last_seq, !queued);
        Ok(())
    }

    fn read_removals(&mut self, block: &[u8]) -> Result<(), Corrupt> {
        let mut reader = varint::unseal(block, "removals", VERSION)?;
        let reset = reader.varint()?;
        if reset > 0 {
            self.index = Index::new(self.index.queued());
            self.deleted.clear();
            (self.messages, self.bytes, self.last_seq) = (0, 0, reset - 1);
            self.journal.base = reset - 1;
        }
        let first_seq = reader.varint()?;
        if reset > 0 || first_seq != self.first_seq {
            self.first_ts_ns = 0;
        }
        self.first_seq = first_seq;
        let last_seq = reader.varint()?;
        if self.first_seq == 0 || self.first_seq - 1 > last_seq || last_seq == u64::MAX {
            return Err(reader.corrupt("sequences out of order"));
        }
        let (messages, bytes) = (reader.varint()?, reader.varint()?);
        let (Some(messages), Some(bytes)) = (self.messages.checked_sub(messages), self.bytes.checked_sub(bytes)) else {
            return Err(reader.corrupt("more is removed than there was"));
        };
        (self.messages, self.bytes) = (messages, bytes);
        read_runs(&mut reader, &mut self.deleted, last_seq)?;
        for _ in 0..reader.varint()? {
            let name = reader.counted()?;
            let removed = reader.varint()?;
            let slot = self.index.find(name).ok_or_else(|| reader.corrupt("an unknown subject"))?;
            let entry = self.index.entry_mut(slot);
            let Some(count) = entry.count.checked_sub(removed) else {
                return Err(reader.corrupt("more of a subject is removed than there was"));
            };
            entry.count = count;
            if count == 0 {
                self.index.release(slot);
            }
        }
        Ok(())
    }

    /// Fit the subjects to first_seq and the deletions, after all removals are read.
    fn settle(&mut self) -> Result<(), Corrupt> {
        self.deleted.remove_below(self.first_seq);
        let (first_seq, deleted) = (self.first_seq, &self.deleted);
        for slot in self.index.slots().collect::<Vec<_>>() {
            if self.index.queued() {
                if !self.index.retain(slot, |at| at >= first_seq && !deleted.contains(at)) {
                    self.index.release(slot);
                }
            } else {
                let last = self.index.entry(slot).last;
                if deleted.contains(last) {
                    self.index.set_last(slot, last.saturating_sub(1), false);
                }
                self.index.raise_first(slot, first_seq);
            }
        }
        let counted: u64 = self.index.slots().map(|slot| self.index.entry(slot).count).sum();
        if counted != self.messages {
            return Err(Corrupt(format!("checkpoint and removals: {counted} messages instead of {}", self.messages)));
        }
        Ok(())
    }

    /// Index records (ascending) that the checkpoint didn't know.
    pub fn replay(&mut self, values: &[&[u8]]) -> Result<(), Corrupt> {
        let mut last_headers: Option<&[u8]> = None;
        for value in values {
            let record = record::decode(value)?;
            if record.sequence <= self.last_seq {
                return Err(Corrupt(format!("sequence {} comes after {}", record.sequence, self.last_seq)));
            }
            last_headers = Some(record.headers);
            self.skip_to(record.sequence);
            if record.sequence < self.first_seq || self.deleted.contains(record.sequence) {
                self.disagrees = true;
                continue;
            }
            let size = self.record_size(&record);
            let slot = self.index.find_or_insert(record.subject);
            self.index.add(slot, record.sequence, u32::try_from(size).unwrap_or(u32::MAX));
            if record.sequence == self.first_seq {
                self.first_ts_ns = record.timestamp_ns;
            }
            self.messages += 1;
            self.bytes += size;
            self.last_ts_ns = self.last_ts_ns.max(record.timestamp_ns);
        }
        if let Some(headers) = last_headers {
            self.last_id = message_id(headers).to_vec();
        }
        Ok(())
    }

    /// Everything between last_seq and a sequence has no record: it must have been deleted.
    fn skip_to(&mut self, sequence: u64) {
        let from = (self.last_seq + 1).max(self.first_seq);
        if sequence > from {
            let missing = sequence - from;
            if self.deleted.count(from, sequence - 1) != missing {
                self.disagrees = true;
                self.deleted.insert_range(from, sequence - 1);
            }
            if self.messages == 0 {
                self.first_seq = sequence;
                self.deleted.remove_below(sequence);
            }
        }
        self.last_seq = sequence;
    }

    /// Compare with the stored totals (none: nothing to compare). False: rebuild from all records.
    pub fn replayed(&mut self) -> bool {
        let Some(totals) = self.restored.take() else {
            self.end_empty();
            self.disagrees = false;
            return true;
        };
        if totals.last_seq > self.last_seq {
            self.skip_to(totals.last_seq + 1);
            self.last_seq = totals.last_seq;
        }
        self.end_empty();
        let agrees = !self.disagrees
            && (totals.messages, totals.bytes, totals.first_seq, totals.last_seq)
                == (self.messages, self.bytes, self.first_seq, self.last_seq);
        self.disagrees = false;
        (self.last_ts_ns, self.last_id) = (totals.last_ts_ns, totals.last_id);
        if agrees && totals.first_ts_ns != 0 {
            self.first_ts_ns = totals.first_ts_ns;
        }
        self.journal.told_first = self.first_seq;
        agrees
    }

    fn end_empty(&mut self) {
        if self.messages == 0 {
            self.first_seq = self.last_seq + 1;
            self.first_ts_ns = 0;
            self.deleted.clear();
        }
    }
}

fn read_subject(reader: &mut Reader<'_>, index: &mut Index, last_max: u64) -> Result<(), Corrupt> {
    let name = reader.counted()?;
    let count = reader.varint()?;
    if count == 0 || name.len() > record::SUBJECT_MAX {
        return Err(reader.corrupt("a subject without messages"));
    }
    let mut entry = Entry::blank(count);
    let mut queue = Queue::new();
    if index.queued() {
        queue.reserve(count.min(reader.len() as u64 / 2).saturating_sub(1) as usize);
        for place in 1..=count {
            entry.last = entry.last.saturating_add(reader.varint()?);
            entry.size = reader.varint()? as u32;
            if place == 1 {
                entry.first = entry.last;
            }
            if place < count {
                queue.push_back((entry.last, entry.size));
            }
        }
    } else {
        entry.first = reader.varint()?;
        let rest = reader.varint()?;
        entry.last = entry.first.saturating_add(rest >> 1);
        entry.exact = rest & 1 == 1;
    }
    if entry.last > last_max {
        return Err(reader.corrupt("a subject beyond the last sequence"));
    }
    index.restore(name, entry, queue);
    Ok(())
}
