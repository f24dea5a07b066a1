//! What admitting a batch came to: records to store, what goes with them, and who is owed which answer.

use std::sync::Arc;

use crate::batch::Batch;
use crate::codec::puback::{Digits, PubAck, Refusal};
use crate::codec::stan;
use crate::log::block::Block;
use crate::log::dedupe::Segment;
use crate::publish::{Outgoing, Publisher};

#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Stored(u64),
    Duplicate(u64),
    Refused(u32),
}

/// An answer with the ends of its reply subject and guid.
#[derive(Clone, Copy, Debug)]
struct Owed {
    reply: usize,
    guid: usize,
    answer: Answer,
}

/// What admitting one batch came to.
#[derive(Debug)]
pub struct Admission {
    /// First sequence given, 0 if none.
    pub first_seq: u64,
    /// Last sequence given.
    pub last_seq: u64,
    /// Older records that must go, ascending.
    pub deletes: Vec<u64>,
    /// Rollups beyond `deletes`: (subject or empty for all, delete below).
    pub purges: Vec<(Vec<u8>, u64)>,
    /// Message ids to store.
    pub ids: Vec<u8>,
    /// Limits are exceeded: trim.
    pub over: bool,
    /// Messages stored.
    pub stored: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages that were there already.
    pub duplicates: u64,
    /// The records to store, ascending, without those that the same batch superseded.
    pub block: Block,
    // Reply subjects, each followed by its guid, one behind the other; an answer ends where the next begins.
    replies: Vec<u8>,
    answers: Vec<Owed>,
    refusals: Vec<Refusal>,
    pub(super) segment: Segment,
    acks: Arc<PubAck>,
    account: String,
}

impl Admission {
    /// Of nothing so far, with room for the records.
    pub(super) fn new(block: Block, acks: Arc<PubAck>, account: String) -> Admission {
        Admission {
            first_seq: 0,
            last_seq: 0,
            deletes: Vec::new(),
            purges: Vec::new(),
            ids: Vec::new(),
            over: false,
            stored: 0,
            refused: 0,
            duplicates: 0,
            block,
            replies: Vec::new(),
            answers: Vec::new(),
            refusals: Vec::new(),
            segment: Segment::default(),
            acks,
            account,
        }
    }

    /// Publish every ack (or error) to its reply subject.
    pub fn ack(&self, publisher: &mut impl Publisher) {
        for (reply, guid, answer) in self.owed() {
            let refusal = match answer {
                Answer::Refused(place) => self.refusals.get(place as usize),
                _ => None,
            };
            match (answer, refusal) {
                (_, Some(refusal)) => self.send_refusal(publisher, reply, guid, refusal),
                _ if !guid.is_empty() => send(publisher, &self.account, reply, &stan::GuidAck::new(guid).pieces()),
                (Answer::Duplicate(sequence), _) => {
                    send(publisher, &self.account, reply, &self.acks.stored(&Digits::new(sequence), true));
                }
                (Answer::Stored(sequence), _) => {
                    send(publisher, &self.account, reply, &self.acks.stored(&Digits::new(sequence), false));
                }
                (Answer::Refused(_), None) => {}
            }
        }
    }

    /// The same error to every publisher that waits, instead of `ack`.
    pub fn refuse(&self, publisher: &mut impl Publisher, refusal: &Refusal) {
        for (reply, guid, _) in self.owed() {
            self.send_refusal(publisher, reply, guid, refusal);
        }
    }

    fn send_refusal(&self, publisher: &mut impl Publisher, reply: &[u8], guid: &[u8], refusal: &Refusal) {
        match guid {
            b"" => send(publisher, &self.account, reply, &[&self.acks.refused(refusal)]),
            guid => send(publisher, &self.account, reply, &[&stan::pub_ack(guid, refusal.description.as_bytes())]),
        }
    }

    /// Who waits for an answer: reply subject and guid.
    fn owed(&self) -> impl Iterator<Item = (&[u8], &[u8], Answer)> {
        let mut start = 0;
        self.answers.iter().map(move |owed| {
            let reply = &self.replies[start..owed.reply];
            start = owed.guid;
            (reply, &self.replies[owed.reply..owed.guid], owed.answer)
        })
    }

    pub(super) fn answer(&mut self, reply: &[u8], guid: &[u8], answer: Answer) {
        if !reply.is_empty() {
            self.replies.extend_from_slice(reply);
            let end = self.replies.len();
            self.replies.extend_from_slice(guid);
            self.answers.push(Owed { reply: end, guid: self.replies.len(), answer });
        }
    }

    pub(super) fn refuse_message(&mut self, reply: &[u8], guid: &[u8], refusal: Refusal) {
        self.refused += 1;
        if !reply.is_empty() {
            self.refusals.push(refusal);
            self.answer(reply, guid, Answer::Refused(self.refusals.len() as u32 - 1));
        }
    }

    /// A record that is older than this batch must be deleted, or one of this batch must not be stored.
    pub(super) fn supersede(&mut self, sequence: u64) {
        if self.first_seq > 0 && sequence >= self.first_seq {
            self.block.remove(sequence);
        } else {
            self.deletes.push(sequence);
        }
    }
}

/// The same error to every message of a batch that was not admitted.
pub fn refuse_batch(batch: &Batch, publisher: &mut impl Publisher, account: &str, stream: &str, refusal: &Refusal) {
    let body = PubAck::new(stream).refused(refusal);
    for message in batch.iter().filter(|message| !message.reply.is_empty()) {
        match message.guid {
            b"" => send(publisher, account, message.reply, &[&body]),
            guid => {
                let body = stan::pub_ack(guid, refusal.description.as_bytes());
                send(publisher, account, message.reply, &[&body]);
            }
        }
    }
}

#[inline]
fn send(publisher: &mut impl Publisher, account: &str, to: &[u8], payload: &[&[u8]]) {
    publisher.publish(account, Outgoing { to, subject: to, reply: b"", headers: &[], payload });
}
