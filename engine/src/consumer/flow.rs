//! Flow control of push consumers: how many bytes may be on their way to a client that answers as it goes.
//!
//! Source: the JetStream push consumer's flow control; the window as nats-server has it.

use crate::codec::status::{Status, FLOW};
use crate::publish::Publisher;

const WINDOW_MIN: u64 = 2 << 20;
const WINDOW_MAX: u64 = 32 << 20;
const MARKS: u64 = 62 * 62 * 62 * 62;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The window of one consumer.
#[derive(Debug)]
pub(super) struct Flow {
    prefix: Vec<u8>,
    window: u64,
    // Bytes sent and not yet known to have arrived.
    outstanding: u64,
    // The request that waits for its answer: its subject and what was outstanding at that moment.
    open: Option<(Vec<u8>, u64)>,
    mark: u64,
}

impl Flow {
    pub fn new(stream: &str, consumer: &str) -> Self {
        // Marks need to differ between consumers no more than an answer may stray; no randomness, so that runs repeat.
        let mark = u64::from(crc32c::crc32c(consumer.as_bytes())) % MARKS;
        let prefix = format!("$JS.FC.{stream}.{consumer}.").into_bytes();
        Self { prefix, window: WINDOW_MIN, outstanding: 0, open: None, mark }
    }

    /// Whether delivery must wait for an answer.
    #[inline]
    pub fn full(&self) -> bool {
        self.outstanding >= self.window
    }

    /// The open request when delivery waits for it.
    pub fn stalled(&self) -> Option<&[u8]> {
        self.open.as_ref().filter(|_| self.full()).map(|(subject, _)| subject.as_slice())
    }

    /// Account for a message that went out; past half of the window the client is asked to answer.
    #[inline]
    pub fn sent(&mut self, hub: &mut dyn Publisher, account: &str, to: &[u8], bytes: u64) {
        self.outstanding += bytes;
        if self.open.is_none() && self.outstanding > self.window / 2 {
            self.ask(hub, account, to);
        }
    }

    fn ask(&mut self, hub: &mut dyn Publisher, account: &str, to: &[u8]) {
        self.mark = (self.mark + 1) % MARKS;
        let mut subject = self.prefix.clone();
        let mut rest = self.mark;
        for _ in 0..4 {
            subject.push(ALPHABET[(rest % 62) as usize]);
            rest /= 62;
        }
        if Status::new(FLOW).send(hub, account, to, &subject).receivers > 0 {
            self.open = Some((subject, self.outstanding));
        }
    }

    /// A client got as far as a request. False: it isn't the open one.
    pub fn answered(&mut self, subject: &[u8]) -> bool {
        match self.open.take_if(|(open, _)| open == subject) {
            Some((_, arrived)) => {
                self.outstanding = self.outstanding.saturating_sub(arrived);
                self.window = (self.window * 2).min(WINDOW_MAX);
                true
            }
            None => false,
        }
    }

    /// Nobody listens any more, or somebody new does: nothing is on its way to them.
    pub fn reset(&mut self) {
        self.window = WINDOW_MIN;
        self.outstanding = 0;
        self.open = None;
    }
}
