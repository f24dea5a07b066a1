//! Status messages of JetStream: a header block with a status line and an empty body.
//!
//! Source: ADR-4 (inline statuses), ADR-13 (pull consumers).

use super::delivery::decimal;
use crate::publish::{Outgoing, Publisher, Sent};

/// A request ran out of time.
pub const TIMEOUT: &str = "408 Request Timeout";
/// A no_wait request at the end of the log.
pub const NO_MESSAGES: &str = "404 No Messages";
/// The next message is bigger than what is left of the request's max_bytes.
pub const TOO_BIG: &str = "409 Message Size Exceeds MaxBytes";
/// The batch is filled and byte budget is left.
pub const COMPLETED: &str = "409 Batch Completed";
/// Nothing happened for a heartbeat's time.
pub const IDLE: &str = "100 Idle Heartbeat";
/// Asks a push client to answer once it got this far.
pub const FLOW: &str = "100 FlowControl Request";

/// A status block under construction.
#[derive(Debug)]
pub struct Status(Vec<u8>);

impl Status {
    /// Begin with a status line such as `408 Request Timeout`.
    pub fn new(line: &str) -> Self {
        let mut block = Vec::with_capacity(96);
        block.extend_from_slice(b"NATS/1.0 ");
        // A line break would start a header of the caller's choice.
        block.extend(line.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
        block.extend_from_slice(b"\r\n");
        Self(block)
    }

    /// Add a header with a number.
    pub fn number(mut self, key: &str, value: u64) -> Self {
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b": ");
        decimal(&mut self.0, value);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Add a header with a text.
    pub fn text(mut self, key: &str, value: &[u8]) -> Self {
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// Publish it to a subject, optionally with a reply.
    pub fn send(self, hub: &mut dyn Publisher, account: &str, to: &[u8], reply: &[u8]) -> Sent {
        let headers: [&[u8]; 2] = [&self.0, b"\r\n"];
        hub.publish(account, Outgoing { to, subject: to, reply, headers: &headers, payload: &[] })
    }
}
