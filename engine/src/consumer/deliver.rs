//! Deliveries: stored records on their way to the deliver subject or to the waiting requests.

use super::pending::{Entry, Wait};
use super::{AckPolicy, Consumer};
use crate::codec::delivery::{Numbers, Parcel};
use crate::codec::record::{self, Corrupt, Record};
use crate::publish::{Publisher, Sent};

/// Where deliveries go.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// To the waiting requests, in turn.
    Requests,
    /// To one subject; with a group that isn't empty, only while that queue group has members there.
    Subject(&'a str, &'a str),
}

/// Bounds and kind of one round of deliveries.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// The time.
    pub now_ns: i64,
    /// Stop once about so many bytes went out.
    pub bytes_max: u64,
    /// Stop before a record younger than this (replay original); 0: don't.
    pub upto_ts_ns: i64,
    /// The records were due again.
    pub redelivery: bool,
}

/// Why a round ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Blocked {
    /// Not blocked: the records are used up, or bytes_max is reached.
    #[default]
    No = 0,
    /// No request waits.
    Request = 1,
    /// max_ack_pending.
    AckPending = 2,
    /// A receiver is congested.
    Congested = 3,
    /// Nobody listens on the deliver subject.
    Interest = 4,
    /// The flow control window is full.
    Window = 5,
    /// The next record is younger than upto_ts_ns.
    Younger = 6,
}

/// What one round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Records delivered or passed over.
    pub consumed: usize,
    /// Records delivered.
    pub delivered: usize,
    /// Why it ended.
    pub blocked: Blocked,
    /// The congested connection.
    pub conn: u64,
    /// Bytes delivered.
    pub bytes: u64,
    /// Stream sequence of the last record consumed.
    pub last_seq: u64,
}

/// What became of one record.
enum Step {
    Passed,
    Sent(Sent, u64),
    Blocked(Blocked),
}

impl Consumer {
    /// Deliver records: ascending ones from next_seq on, or what `due` named in its order.
    ///
    /// Errors: a damaged record; those before it are delivered, which `next_seq` and `due` tell.
    pub fn deliver<V: AsRef<[u8]>>(
        &mut self,
        hub: &mut dyn Publisher,
        account: &str,
        values: &[V],
        target: Target<'_>,
        how: &How,
    ) -> Result<Delivery, Corrupt> {
        let mut done = Delivery::default();
        if let Target::Subject(to, group) = target {
            // Plain subscribers of the deliver subject get copies, but don't count beside a group.
            if !group.is_empty() && !hub.interest(account, to.as_bytes(), group.as_bytes()) {
                self.flow_reset();
                done.blocked = Blocked::Interest;
                return Ok(done);
            }
        }
        for value in values {
            if let Some(blocked) = self.held_back(target, how) {
                done.blocked = blocked;
                break;
            }
            if done.bytes >= how.bytes_max && done.delivered > 0 {
                break;
            }
            let record = record::decode(value.as_ref())?;
            let step = match how.redelivery {
                true => self.again(hub, account, &record, target, how),
                false => self.first(hub, account, &record, target, how),
            };
            match step {
                Step::Passed => {}
                Step::Sent(sent, size) => {
                    done.delivered += 1;
                    done.bytes += size;
                    done.conn = sent.congested;
                }
                Step::Blocked(blocked) => {
                    done.blocked = blocked;
                    break;
                }
            }
            done.consumed += 1;
            done.last_seq = record.sequence;
            if done.conn != 0 {
                done.blocked = Blocked::Congested;
                break;
            }
        }
        if how.redelivery {
            self.waits.trim(&self.pending);
        }
        Ok(done)
    }

    #[inline]
    fn held_back(&mut self, target: Target<'_>, how: &How) -> Option<Blocked> {
        if !how.redelivery && self.at_limit() {
            return Some(Blocked::AckPending);
        }
        match target {
            Target::Requests => self.requests.is_empty().then_some(Blocked::Request),
            Target::Subject(..) => self.flow.as_ref().filter(|flow| flow.full()).map(|_| Blocked::Window),
        }
    }

    fn first(
        &mut self,
        hub: &mut dyn Publisher,
        account: &str,
        record: &Record<'_>,
        target: Target<'_>,
        how: &How,
    ) -> Step {
        // Given twice by our caller, it must not go out twice; the last number of all has no successor to go on with.
        if record.sequence < self.next_seq || record.sequence == u64::MAX {
            return Step::Passed;
        }
        if !self.wants(record.subject) {
            self.next_seq = record.sequence.saturating_add(1);
            return Step::Passed;
        }
        if how.upto_ts_ns != 0 && record.timestamp_ns > how.upto_ts_ns {
            return Step::Blocked(Blocked::Younger);
        }
        let pending = self.num_pending.saturating_sub(1);
        let step = self.send(hub, account, record, target, how, 1, pending);
        if let Step::Sent(..) = step {
            self.num_pending = pending;
            self.next_seq = record.sequence.saturating_add(1);
            self.delivered.consumer_seq += 1;
            self.delivered.stream_seq = record.sequence;
            self.delivered.at_ns = how.now_ns;
            if self.policy == AckPolicy::None {
                self.floor.consumer_seq = self.delivered.consumer_seq;
                self.floor.stream_seq = self.delivered.stream_seq;
            } else {
                let deadline = how.now_ns.saturating_add(self.options.wait_ns(1));
                self.pending.push(Entry {
                    stream_seq: record.sequence,
                    consumer_seq: self.delivered.consumer_seq,
                    delivered_at_ns: how.now_ns,
                    deliveries: 1,
                    member: 0,
                    wait: Wait::Until(deadline),
                });
                self.waits.arm(&self.pending, deadline, record.sequence, false);
            }
        }
        step
    }

    fn again(
        &mut self,
        hub: &mut dyn Publisher,
        account: &str,
        record: &Record<'_>,
        target: Target<'_>,
        how: &How,
    ) -> Step {
        let seq = record.sequence;
        let deliveries = match self.pending.get(seq) {
            Some(Entry { wait: Wait::Queued(_), deliveries, .. }) => *deliveries,
            _ => return Step::Passed,
        };
        if self.used_up(deliveries) {
            // The limit was lowered while it was queued: `expire` tells of it.
            self.wait_until(seq, how.now_ns, true);
            return Step::Passed;
        }
        let step = self.send(hub, account, record, target, how, deliveries.saturating_add(1), self.num_pending);
        if let Step::Sent(..) = step {
            self.delivered.consumer_seq += 1;
            self.delivered.at_ns = how.now_ns;
            self.redelivered += u64::from(deliveries == 1);
            let deliveries = deliveries.saturating_add(1);
            if let Some(entry) = self.pending.get_mut(seq) {
                entry.deliveries = deliveries;
                entry.delivered_at_ns = how.now_ns;
            }
            let odd = !self.options.backoff_ns.is_empty();
            self.wait_until(seq, how.now_ns.saturating_add(self.options.wait_ns(deliveries)), odd);
        }
        step
    }

    /// A pending message waits (anew) until a moment; it leaves the redelivery queue if it is there.
    pub(super) fn wait_until(&mut self, seq: u64, deadline: i64, odd: bool) {
        let Some(entry) = self.pending.get_mut(seq) else { return };
        if matches!(entry.wait, Wait::Queued(_)) {
            self.waits.dequeued();
        }
        entry.wait = Wait::Until(deadline);
        self.waits.arm(&self.pending, deadline, seq, odd);
    }

    #[allow(clippy::too_many_arguments, reason = "the hot path of both kinds of delivery, called right above")]
    #[inline]
    fn send(
        &mut self,
        hub: &mut dyn Publisher,
        account: &str,
        record: &Record<'_>,
        target: Target<'_>,
        how: &How,
        deliveries: u32,
        pending: u64,
    ) -> Step {
        self.subject.render(&Numbers {
            deliveries,
            stream_seq: record.sequence,
            consumer_seq: self.delivered.consumer_seq + 1,
            timestamp_ns: record.timestamp_ns,
            pending,
        });
        let sizes = self.options.headers_only.then_some(&mut self.sizes);
        let parcel = Parcel::new(record.subject, self.subject.text(), record.headers, record.payload, sizes);
        match target {
            Target::Requests => match self.requests.serve(hub, account, &parcel, how.now_ns) {
                Some(sent) => Step::Sent(sent, parcel.size()),
                None => Step::Blocked(Blocked::Request),
            },
            Target::Subject(to, _) => {
                let sent = parcel.send(hub, account, to.as_bytes());
                if sent.receivers == 0 {
                    self.flow_reset();
                    return Step::Blocked(Blocked::Interest);
                }
                let size = parcel.size();
                if let Some(flow) = &mut self.flow {
                    flow.sent(hub, account, to.as_bytes(), size);
                }
                Step::Sent(sent, size)
            }
        }
    }
}
