//! Stand-in of the hub: counts what is published.

use crate::publish::{Outgoing, Publisher, Sent};

/// Keeps what was published.
#[derive(Debug, Default)]
pub struct Hub {
    /// (to, headers, payload) in order.
    pub sent: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    /// How many.
    pub count: u64,
}

impl Publisher for Hub {
    fn publish(&mut self, _account: &str, message: Outgoing<'_>) -> Sent {
        self.count += 1;
        if self.sent.len() < 1000 {
            self.sent.push((message.to.to_vec(), message.headers.concat(), message.payload.concat()));
        }
        Sent { receivers: 1, congested: 0 }
    }

    fn interest(&mut self, _account: &str, _subject: &[u8], _group: &[u8]) -> bool {
        true
    }
}
