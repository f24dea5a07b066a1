//! One subscription, or one queue group with its members: what was sent, what is pending with whom, what comes again.
//!
//! A plain subscription is a group with one member. As with consumers the driver reads the log and hands records in, and
//! time is an argument.

use super::members::Member;
use crate::batch::Batch;
use crate::codec::record::{self, Corrupt, Record};
use crate::codec::stan::{self, MsgProto};
use crate::consumer::pending::{Entry, Pending, Wait};
use crate::consumer::waits::Waits;
use crate::consumer::{Blocked, Delivery};
use crate::publish::{Outgoing, Publisher, Sent};

/// What falls due so soon after a timer is sent with it.
const SWEEP_NS: i64 = 15_000_000;

/// What a batch of acks came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// Messages that left pending.
    pub settled: u64,
    /// Acks that can't be read or speak of another channel.
    pub foreign: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Group {
    channel: Vec<u8>,
    pub(super) queue: bool,
    patient: bool,
    pub(super) next_seq: u64,
    pub(super) pending: Pending,
    pub(super) waits: Waits,
    // In the order in which they are chosen when equal.
    pub(super) members: Vec<Member>,
    // What lies below was pending at a restart or a resume: the first time that it comes again it goes to who holds it.
    pub(super) kept_below: u64,
    frame: MsgProto,
}

impl Group {
    /// Of a channel, beginning at a sequence. `queue`: members share the messages. `patient`: what nobody is there to get isn't
    /// sent.
    pub fn new(channel: &[u8], queue: bool, patient: bool, next_seq: u64) -> Group {
        Group {
            channel: channel.to_vec(),
            queue,
            patient,
            next_seq: next_seq.max(1),
            pending: Pending::default(),
            waits: Waits::default(),
            members: Vec::new(),
            kept_below: 0,
            frame: MsgProto::default(),
        }
    }

    /// Stream sequence to look at next.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Skip ahead; never back.
    pub fn set_next_seq(&mut self, sequence: u64) {
        self.next_seq = self.next_seq.max(sequence);
    }

    /// Messages that wait for an ack.
    pub fn num_pending(&self) -> usize {
        self.pending.len()
    }

    /// Their sequences, ascending.
    pub fn pending(&self) -> impl Iterator<Item = &Entry> {
        self.pending.iter()
    }

    /// Messages in the redelivery queue.
    pub fn num_queued(&self) -> usize {
        self.waits.queued()
    }

    /// The members in the order of choice.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether no member takes new messages.
    pub fn stalled(&self) -> bool {
        self.members.iter().all(Member::stalled)
    }

    /// How many new messages the members take before all of them are stalled.
    pub fn room(&self) -> u64 {
        let rooms = self.members.iter().map(|member| member.max_in_flight.saturating_sub(member.pending));
        rooms.fold(0, u64::saturating_add)
    }

    // Deliveries.

    /// Send records: ascending ones from next_seq on, or what `due` named in its order.
    ///
    /// Errors: a damaged record; those before it are sent.
    pub fn deliver<V: AsRef<[u8]>>(
        &mut self,
        publisher: &mut dyn Publisher,
        account: &str,
        values: &[V],
        now_ns: i64,
        bytes_max: u64,
        redelivery: bool,
    ) -> Result<Delivery, Corrupt> {
        let mut done = Delivery::default();
        for value in values {
            if done.bytes >= bytes_max && done.delivered > 0 {
                break;
            }
            let record = record::decode(value.as_ref())?;
            let sent = match redelivery {
                true => self.again(publisher, account, &record, now_ns),
                false => self.first(publisher, account, &record, now_ns),
            };
            match sent {
                Ok(Some(sent)) => {
                    done.delivered += 1;
                    done.bytes += self.frame.len(record.payload) as u64;
                    done.conn = sent.congested;
                }
                Ok(None) => {}
                Err(blocked) => {
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
        if redelivery {
            self.waits.trim(&self.pending);
        }
        Ok(done)
    }

    #[inline]
    fn first(
        &mut self,
        publisher: &mut dyn Publisher,
        account: &str,
        record: &Record<'_>,
        now_ns: i64,
    ) -> Result<Option<Sent>, Blocked> {
        // The last number of all has no successor to go on with.
        if record.sequence < self.next_seq || record.sequence == u64::MAX {
            return Ok(None);
        }
        let able = |member: &Member| !member.stalled() && !member.absent;
        let (place, sent) = loop {
            // If all clients are silent one of them gets it all the same.
            let place = match self.choose().or_else(|| self.members.iter().position(able)) {
                Some(place) => self.rotate(place),
                None if self.members.iter().all(|member| member.absent) => return Err(Blocked::Interest),
                None => return Err(Blocked::AckPending),
            };
            if let Some(sent) = self.send(publisher, account, record, place, 0) {
                break (place, sent);
            }
        };
        let member = &mut self.members[place];
        member.pending += 1;
        let deadline = now_ns.saturating_add(member.ack_wait_ns);
        self.pending.push(Entry {
            stream_seq: record.sequence,
            consumer_seq: 0,
            delivered_at_ns: now_ns,
            deliveries: 1,
            member: member.number,
            wait: Wait::Until(deadline),
        });
        self.waits.arm(&self.pending, deadline, record.sequence, false);
        self.next_seq = record.sequence + 1;
        Ok(Some(sent))
    }

    fn again(
        &mut self,
        publisher: &mut dyn Publisher,
        account: &str,
        record: &Record<'_>,
        now_ns: i64,
    ) -> Result<Option<Sent>, Blocked> {
        let seq = record.sequence;
        let (held_by, deliveries, since_ns) = match self.pending.get(seq) {
            Some(entry @ Entry { wait: Wait::Queued(_), .. }) => {
                (entry.member, entry.deliveries, entry.delivered_at_ns)
            }
            _ => return Ok(None),
        };
        let kept = seq < self.kept_below && deliveries == 1;
        let keeps = |member: &Member| kept && member.number == held_by && !member.absent;
        let (place, sent) = loop {
            let place = match self.members.iter().position(keeps) {
                Some(place) => place,
                None => match self.choose().or_else(|| self.members.iter().position(|member| !member.absent)) {
                    Some(place) => self.rotate(place),
                    None => return Err(Blocked::Interest),
                },
            };
            if let Some(sent) = self.send(publisher, account, record, place, deliveries) {
                break (place, sent);
            }
        };
        let member = &self.members[place];
        let (number, wait_ns) = (member.number, member.ack_wait_ns);
        if number != held_by {
            self.members[place].pending += 1;
            if let Some(before) = self.member_mut(held_by) {
                before.pending = before.pending.saturating_sub(1);
            }
        }
        // The period is that of the ack wait, whatever the timers do; but what lies behind is not made up for.
        let planned = since_ns.saturating_add(wait_ns);
        let deadline = if planned > now_ns { planned } else { now_ns.saturating_add(wait_ns) };
        if let Some(entry) = self.pending.get_mut(seq) {
            entry.member = number;
            entry.deliveries = deliveries.saturating_add(1);
        }
        self.wait_until(seq, deadline);
        Ok(Some(sent))
    }

    /// None: nobody is there to get it.
    #[inline]
    fn send(
        &mut self,
        publisher: &mut dyn Publisher,
        account: &str,
        record: &Record<'_>,
        place: usize,
        redeliveries: u32,
    ) -> Option<Sent> {
        let (headers, data) = (record.headers, record.payload);
        self.frame.render(record.sequence, &self.channel, headers, data.len(), record.timestamp_ns, redeliveries);
        let member = &mut self.members[place];
        let to = &member.inbox;
        let payload = &self.frame.pieces(data);
        let sent = publisher.publish(account, Outgoing { to, subject: to, reply: b"", headers: &[], payload });
        member.absent = self.patient && sent.receivers == 0;
        (!member.absent).then_some(sent)
    }

    /// A pending message waits (anew) until a moment; it leaves the redelivery queue if it is there.
    pub(super) fn wait_until(&mut self, seq: u64, deadline: i64) {
        let Some(entry) = self.pending.get_mut(seq) else { return };
        if matches!(entry.wait, Wait::Queued(_)) {
            self.waits.dequeued();
        }
        entry.wait = Wait::Until(deadline);
        self.waits.arm(&self.pending, deadline, seq, false);
    }

    /// When `due` has something to tell next; never while there is nobody to send it to.
    pub fn deadline_ns(&mut self) -> Option<i64> {
        match self.members.is_empty() {
            true => None,
            false => self.waits.next(&self.pending),
        }
    }

    /// Sequences to send again, at most `limit`. They stay queued until sent.
    pub fn due(&mut self, now_ns: i64, limit: usize) -> Vec<u64> {
        if self.members.is_empty() {
            return Vec::new();
        }
        if self.deadline_ns().is_some_and(|deadline| deadline <= now_ns) {
            let silent = !self.queue && self.members.iter().all(|member| member.failing);
            for (deadline, seq) in self.waits.overdue(&self.pending, now_ns.saturating_add(SWEEP_NS)) {
                let wait_ns = self.members[0].ack_wait_ns;
                if silent {
                    // Nobody would hear it.
                    self.wait_until(seq, now_ns.saturating_add(wait_ns));
                    continue;
                }
                if let Some(entry) = self.pending.get_mut(seq) {
                    entry.delivered_at_ns = deadline;
                }
                self.waits.enqueue(&mut self.pending, seq);
            }
        }
        self.waits.first_queued(&self.pending, limit)
    }

    // Settling.

    fn settle(&mut self, seq: u64) -> bool {
        let Some(entry) = self.pending.remove(seq) else { return false };
        self.waits.settled(&entry);
        if let Some(member) = self.member_mut(entry.member) {
            member.pending = member.pending.saturating_sub(1);
        }
        true
    }

    /// Apply a batch of acks. What isn't pending (any more) is ignored.
    pub fn ack(&mut self, batch: &Batch) -> Acks {
        let mut acks = Acks::default();
        for message in batch.iter() {
            match stan::ack(message.payload) {
                Some(ack) if ack.channel == self.channel => acks.settled += u64::from(self.settle(ack.sequence)),
                _ => acks.foreign += 1,
            }
        }
        acks
    }

    /// Messages that left the stream need no ack. Returns how many were pending.
    pub fn forget(&mut self, sequences: &[u64]) -> usize {
        sequences.iter().filter(|seq| self.settle(**seq)).count()
    }

    /// The same for everything below a sequence, where delivery goes on then.
    pub fn forget_below(&mut self, sequence: u64) -> usize {
        let mut gone = 0;
        while let Some(first) = self.pending.first().map(|entry| entry.stream_seq).filter(|first| *first < sequence) {
            gone += usize::from(self.settle(first));
        }
        self.next_seq = self.next_seq.max(sequence);
        gone
    }
}
