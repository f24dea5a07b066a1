//! One connection: its options, its parser, its subscriptions and its pending output.

use std::borrow::Cow;

use hashbrown::HashTable;

use super::route::Route;
use crate::wire::{Parser, Rules};

/// Bytes handed out for one connection in one turn.
pub(super) const TURN_BYTES_MAX: usize = 1 << 20;
// Spare buffers are given to the next connection that has output, so idle ones own none.
const SPARE_MAX: usize = 32;
const SPARE_BYTES_MAX: usize = 2 << 20;
// From here on output is handed out as the buffer it lies in: below, copying it costs less than what goes with that.
const WHOLE_BYTES_MIN: usize = 16 << 10;

/// Whether input is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Yes.
    Open,
    /// A CONNECT waits for its answer; input is kept.
    Waiting,
    /// No more.
    Closed,
}

/// What CONNECT settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// +OK after each operation.
    pub verbose: bool,
    /// Check publish subjects.
    pub pedantic: bool,
    /// Deliver own messages.
    pub echo: bool,
    /// Takes HMSG and may send HPUB.
    pub headers: bool,
    /// Wants 503 answers.
    pub no_responders: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { verbose: true, pedantic: true, echo: true, headers: false, no_responders: false }
    }
}

/// Counters of one connection or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages received.
    pub in_msgs: u64,
    /// Their bytes, headers included.
    pub in_bytes: u64,
    /// Messages sent.
    pub out_msgs: u64,
    /// Their bytes, headers included.
    pub out_bytes: u64,
}

/// Empty buffers that the next connections with output write to.
#[derive(Debug, Default)]
pub(super) struct Spare(Vec<Vec<u8>>);

impl Spare {
    pub(super) fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= SPARE_BYTES_MAX && self.0.len() < SPARE_MAX {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// Pending output.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    // Bytes at the front that were handed out.
    taken: usize,
}

impl Output {
    #[inline]
    pub(super) fn pending(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Where to write; borrows a spare buffer first if there is none and the output leaves soon.
    #[inline]
    pub(super) fn buffer(&mut self, spare: &mut Spare, paused: bool) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 && !paused {
            if let Some(buffer) = spare.0.pop() {
                self.bytes = buffer;
            }
        }
        &mut self.bytes
    }

    /// Hand out up to `limit` bytes, where there are many in the buffer itself. Returns whether nothing is left.
    pub(super) fn take(&mut self, limit: usize, spare: &mut Spare, mut sink: impl FnMut(Cow<'_, [u8]>)) -> bool {
        let end = self.bytes.len().min(self.taken.saturating_add(limit));
        // Whoever holds the buffer for long holds all of it, so it is given only if it is well filled.
        let whole = self.taken == 0 && end == self.bytes.len() && end >= self.bytes.capacity() / 4;
        if whole && end >= WHOLE_BYTES_MIN {
            sink(Cow::Owned(std::mem::take(&mut self.bytes)));
            return true;
        }
        if let Some(chunk) = self.bytes.get(self.taken..end) {
            if !chunk.is_empty() {
                sink(Cow::Borrowed(chunk));
            }
        }
        self.taken = end;
        if self.taken < self.bytes.len() {
            // Moving the rest once half is gone costs at most one copy of each byte.
            if self.taken > self.bytes.len() / 2 {
                self.bytes.drain(..self.taken);
                self.taken = 0;
            }
            return false;
        }
        self.taken = 0;
        spare.put(std::mem::take(&mut self.bytes));
        true
    }

    /// Give back what a paused connection doesn't need.
    pub(super) fn shrink(&mut self) {
        if self.bytes.capacity() > self.bytes.len() * 2 + 4096 {
            self.bytes.shrink_to_fit();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Output::default();
    }
}

/// A client, or another server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    /// Set for another server.
    pub(super) route: Option<Box<Route>>,
    pub(super) account: u32,
    pub(super) phase: Phase,
    pub(super) auth_pending: bool,
    pub(super) connected: bool,
    pub(super) options: Options,
    pub(super) parser: Parser,
    /// What came behind a CONNECT that isn't answered yet, or before a route is ready.
    pub(super) held: Vec<u8>,
    pub(super) output: Output,
    pub(super) paused: bool,
    /// It is on the list of connections with output.
    pub(super) dirty: bool,
    /// A STALL event of this turn names it.
    pub(super) stalled: bool,
    /// What it has pending was saved up during a pause.
    pub(super) backlog: bool,
    pub(super) drain_asked: bool,
    /// Numbers of its subscriptions, by sid (of a route: by `Sub::hash`).
    pub(super) subs: HashTable<u32>,
    pub(super) after_pong: Vec<u8>,
    pub(super) traffic: Traffic,
    pub(super) received: u64,
    pub(super) pings: u32,
}

impl Connection {
    pub(super) fn new(id: u64, account: u32, auth_pending: bool) -> Self {
        Connection {
            id,
            route: None,
            account,
            phase: Phase::Open,
            auth_pending,
            connected: false,
            options: Options::default(),
            parser: Parser::default(),
            held: Vec::new(),
            output: Output::default(),
            paused: false,
            dirty: false,
            stalled: false,
            backlog: false,
            drain_asked: false,
            subs: HashTable::new(),
            after_pong: Vec::new(),
            traffic: Traffic::default(),
            received: 0,
            pings: 0,
        }
    }

    pub(super) fn rules(&self, max_control_line: usize, max_payload: usize) -> Rules {
        Rules { max_control_line, max_payload, headers: self.options.headers, auth_pending: self.auth_pending }
    }
}
