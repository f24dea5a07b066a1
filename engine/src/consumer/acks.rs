//! Acks: what clients say of the messages they got.

use super::pending::Wait;
use super::{AckPolicy, Consumer};
use crate::batch::{Batch, Message};
use crate::codec::ack::{self, Body, Reference};
use crate::publish::{Outgoing, Publisher};

/// A message that a client gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nak {
    /// Which delivery, as its ack subject says.
    pub reference: Reference,
}

/// A message that a client gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Which delivery, as its ack subject says.
    pub reference: Reference,
    /// Why.
    pub reason: Vec<u8>,
}

/// An acked message, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Which delivery, as its ack subject says.
    pub reference: Reference,
    /// When it had been delivered last.
    pub delivered_at_ns: i64,
}

/// What one batch of acks came to. The confirmations wait inside.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Stream sequences that were settled: they left pending, or had been given up for max_deliver.
    pub settled: Vec<u64>,
    /// Stream sequences acked again or late, which weren't pending any more.
    pub late: Vec<u64>,
    /// Whether what `encode` stores has changed.
    pub changed: bool,
    /// Whether the redelivery queue isn't empty.
    pub redeliver: bool,
    /// Messages given back.
    pub naks: Vec<Nak>,
    /// Messages given up, settled ones included.
    pub terms: Vec<Term>,
    /// Pull requests that came with an ack: reply and request.
    pub nexts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Acked messages, if the consumer samples.
    pub acked: Vec<Sample>,
    replies: Vec<u8>,
    ends: Vec<usize>,
}

impl Outcome {
    /// How many acks wait for their confirmation.
    pub fn confirmations(&self) -> usize {
        self.ends.len()
    }

    /// Answer those who asked for it with an empty message, once.
    pub fn confirm(&mut self, hub: &mut dyn Publisher, account: &str) {
        let mut start = 0;
        for end in std::mem::take(&mut self.ends) {
            let to = &self.replies[start..end];
            hub.publish(account, Outgoing { to, subject: to, reply: b"", headers: &[], payload: &[] });
            start = end;
        }
        self.replies = Vec::new();
    }

    fn answer(&mut self, reply: &[u8]) {
        if !reply.is_empty() {
            self.replies.extend_from_slice(reply);
            self.ends.push(self.replies.len());
        }
    }
}

impl Consumer {
    /// Apply a batch of acks, in order. What isn't an ack subject of this consumer is ignored.
    pub fn ack(&mut self, batch: &Batch, now_ns: i64) -> Outcome {
        let mut outcome = Outcome::default();
        for message in batch.iter() {
            self.ack_one(&message, now_ns, &mut outcome);
        }
        if !outcome.settled.is_empty() {
            outcome.changed = true;
            self.floor.at_ns = now_ns;
            self.raise_floor();
        }
        outcome.redeliver = self.waits.queued() > 0;
        outcome
    }

    #[inline]
    fn ack_one(&mut self, message: &Message<'_>, now_ns: i64, outcome: &mut Outcome) {
        let Some(reference) = ack::reference(message.subject, self.subject.prefix()) else { return };
        let body = ack::body(message.payload);
        if let Body::Next(request) = body {
            if !message.reply.is_empty() {
                outcome.nexts.push((message.reply.to_vec(), request.to_vec()));
            }
        }
        if !self.was_delivered(reference) {
            return;
        }
        match body {
            Body::Ack => self.acked(reference, outcome),
            // The messages it asks for are its answer.
            Body::Next(_) => return self.acked(reference, outcome),
            Body::Nak(delay) => self.nak(reference, delay, now_ns, outcome),
            Body::Progress => self.progress(reference.stream_seq, now_ns, outcome),
            Body::Term(reason) => {
                outcome.terms.push(Term { reference, reason: reason.to_vec() });
                self.settle_acked(reference, outcome);
            }
            Body::Other => {}
        }
        outcome.answer(message.reply);
    }

    fn was_delivered(&self, reference: Reference) -> bool {
        let Reference { stream_seq, consumer_seq, .. } = reference;
        (1..=self.delivered.stream_seq).contains(&stream_seq)
            && (1..=self.delivered.consumer_seq).contains(&consumer_seq)
    }

    #[inline]
    fn acked(&mut self, reference: Reference, outcome: &mut Outcome) {
        if self.options.sampling {
            if let Some(entry) = self.pending.get(reference.stream_seq) {
                outcome.acked.push(Sample { reference, delivered_at_ns: entry.delivered_at_ns });
            }
        }
        self.settle_acked(reference, outcome);
    }

    #[inline]
    fn settle_acked(&mut self, reference: Reference, outcome: &mut Outcome) {
        let seq = reference.stream_seq;
        let before = outcome.settled.len();
        if self.policy == AckPolicy::All {
            // What lies below was given up at most, and is settled with the rest.
            let below: Vec<u64> = self.exhausted.range(..seq).map(|(given_up, _)| *given_up).collect();
            for given_up in below {
                self.settle_exhausted(given_up);
                outcome.settled.push(given_up);
            }
            self.settle_below(seq, |entry| outcome.settled.push(entry.stream_seq));
        }
        if self.settle(seq).is_some() || (!self.exhausted.is_empty() && self.settle_exhausted(seq)) {
            outcome.settled.push(seq);
        } else if outcome.settled.len() == before {
            outcome.late.push(seq);
        }
    }

    fn nak(&mut self, reference: Reference, delay: i64, now_ns: i64, outcome: &mut Outcome) {
        let seq = reference.stream_seq;
        let Some(entry) = self.pending.get(seq) else { return };
        outcome.naks.push(Nak { reference });
        let queued = matches!(entry.wait, Wait::Queued(_));
        let waits = delay > 0 || self.used_up(entry.deliveries);
        // Stored, or after a restart and at the next leader it would come once ack_wait is over.
        outcome.changed |= waits || !queued;
        if waits {
            // Without a delay and at max_deliver it is over at once, which `expire` tells.
            self.wait_until(seq, now_ns.saturating_add(delay), true);
        } else {
            self.waits.enqueue(&mut self.pending, seq);
        }
    }

    fn progress(&mut self, seq: u64, now_ns: i64, outcome: &mut Outcome) {
        let Some(entry) = self.pending.get_mut(seq) else { return };
        // What is queued stays queued, as in nats-server.
        if let Wait::Until(_) = entry.wait {
            // The stored delivery time is what deadlines are computed from after a restart.
            entry.delivered_at_ns = now_ns;
            let deliveries = entry.deliveries;
            outcome.changed = true;
            let odd = deliveries > 1 && !self.options.backoff_ns.is_empty();
            self.wait_until(seq, now_ns.saturating_add(self.options.wait_ns(deliveries)), odd);
        }
    }
}
