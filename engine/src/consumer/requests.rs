//! Waiting pull requests: strict round robin, one message each.
//!
//! Source: ADR-13; nats-server 2.15.2.

use std::collections::VecDeque;

use crate::codec::delivery::Parcel;
use crate::codec::status::{Status, COMPLETED, IDLE, NO_MESSAGES, TIMEOUT, TOO_BIG};
use crate::publish::{Publisher, Sent};

/// What a pull request asks for. Zero means none, but for `batch`, where it means one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Messages at most.
    pub batch: u64,
    /// Bytes at most: subjects, replies, headers and bodies.
    pub max_bytes: u64,
    /// When it ends.
    pub expires_at_ns: i64,
    /// End it at the end of the log instead of waiting there.
    pub no_wait: bool,
    /// Send a sign of life after so long without a message.
    pub heartbeat_ns: i64,
}

#[derive(Debug)]
struct Request {
    inbox: Vec<u8>,
    ask: Ask,
    // What is left of the batch and of max_bytes (0 if that isn't limited).
    messages: u64,
    bytes: u64,
    served: bool,
    last_sent_ns: i64,
}

impl Request {
    fn fits(&self, size: u64) -> bool {
        self.ask.max_bytes == 0 || size <= self.bytes
    }

    fn expired(&self, now_ns: i64) -> bool {
        self.ask.expires_at_ns > 0 && self.ask.expires_at_ns <= now_ns
    }

    fn heartbeat_at(&self) -> Option<i64> {
        (self.ask.heartbeat_ns > 0).then(|| self.last_sent_ns.saturating_add(self.ask.heartbeat_ns))
    }

    fn end(&self, hub: &mut dyn Publisher, account: &str, line: &str, counts: bool) {
        let mut status = Status::new(line);
        if counts {
            status = status.number("Nats-Pending-Messages", self.messages).number("Nats-Pending-Bytes", self.bytes);
        }
        status.send(hub, account, &self.inbox, b"");
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Requests {
    queue: VecDeque<Request>,
}

impl Requests {
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Where the answers go, in the order of the queue.
    pub fn inboxes(&self) -> impl Iterator<Item = &[u8]> {
        self.queue.iter().map(|request| request.inbox.as_slice())
    }

    /// Messages that all of them together still ask for.
    pub fn demand(&self) -> u64 {
        self.queue.iter().fold(0, |demand, request| demand.saturating_add(request.messages))
    }

    pub fn push(&mut self, inbox: &[u8], ask: Ask, now_ns: i64) {
        self.queue.push_back(Request {
            inbox: inbox.to_vec(),
            ask,
            messages: ask.batch.max(1),
            bytes: ask.max_bytes,
            served: false,
            last_sent_ns: now_ns,
        });
    }

    /// Send a message to the one whose turn it is. None: nobody is left who can take it.
    #[inline]
    pub fn serve(&mut self, hub: &mut dyn Publisher, account: &str, parcel: &Parcel<'_>, now_ns: i64) -> Option<Sent> {
        let size = parcel.size();
        loop {
            let request = self.queue.front_mut()?;
            let refusal = if request.expired(now_ns) {
                Some(TIMEOUT)
            } else if !request.fits(size) {
                Some(TOO_BIG)
            } else {
                None
            };
            if let Some(line) = refusal {
                request.end(hub, account, line, true);
                self.queue.pop_front();
                continue;
            }
            let sent = parcel.send(hub, account, &request.inbox);
            if sent.receivers == 0 {
                self.queue.pop_front();
                continue;
            }
            request.messages -= 1;
            request.bytes = request.bytes.saturating_sub(size);
            request.served = true;
            request.last_sent_ns = now_ns;
            if request.messages == 0 {
                if request.bytes > 0 {
                    request.end(hub, account, COMPLETED, true);
                }
                self.queue.pop_front();
            } else if self.queue.len() > 1 {
                self.queue.rotate_left(1);
            }
            return Some(sent);
        }
    }

    pub fn end_all(&mut self, hub: &mut dyn Publisher, account: &str, line: &str, counts: bool) -> usize {
        let ended = std::mem::take(&mut self.queue);
        for request in &ended {
            request.end(hub, account, line, counts);
        }
        ended.len()
    }

    /// Timeouts, heartbeats (telling the last delivery) and requests that nobody waits for any more.
    pub fn tick(&mut self, hub: &mut dyn Publisher, account: &str, now_ns: i64, last: (u64, u64)) -> Option<i64> {
        let mut next = None;
        self.queue.retain_mut(|request| {
            if !hub.interest(account, &request.inbox, b"") {
                return false;
            }
            if request.expired(now_ns) {
                request.end(hub, account, TIMEOUT, true);
                return false;
            }
            if request.heartbeat_at().is_some_and(|at| at <= now_ns) {
                idle(last).send(hub, account, &request.inbox, b"");
                request.last_sent_ns = now_ns;
            }
            let expiry = Some(request.ask.expires_at_ns).filter(|at| *at > 0);
            next = [next, expiry, request.heartbeat_at()].into_iter().flatten().min();
            true
        });
        next
    }

    /// The end of the log is reached.
    pub fn drained(&mut self, hub: &mut dyn Publisher, account: &str) {
        self.queue.retain_mut(|request| {
            let over = request.ask.no_wait && (request.served || request.ask.expires_at_ns == 0);
            if over {
                request.end(hub, account, NO_MESSAGES, false);
            }
            !over
        });
    }
}

/// A heartbeat that tells the last delivery (consumer and stream sequence).
pub(super) fn idle((consumer_seq, stream_seq): (u64, u64)) -> Status {
    Status::new(IDLE).number("Nats-Last-Consumer", consumer_seq).number("Nats-Last-Stream", stream_seq)
}
