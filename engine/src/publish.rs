//! What acks, deliveries and replies need of the hub, so that they can be tested without one.

/// A message of the server on its way out. Pieces are joined on the wire, never before.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Subject that decides who receives it.
    pub to: &'a [u8],
    /// Subject that the receivers are shown (a delivery shows the stored one).
    pub subject: &'a [u8],
    /// Reply subject; empty for none.
    pub reply: &'a [u8],
    /// Pieces of one header block; all empty for none.
    pub headers: &'a [&'a [u8]],
    /// Pieces of the body.
    pub payload: &'a [&'a [u8]],
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Subscriptions that took it.
    pub receivers: u32,
    /// A receiver whose pending output is past the high-water mark (a quarter of max_pending, at most 8 MiB), or 0.
    pub congested: u64,
}

/// Routes a message in an account as if the server had published it: clients, queue groups and taps receive it.
pub trait Publisher {
    /// Send one message; an unknown account has no receivers.
    fn publish(&mut self, account: &str, message: Outgoing<'_>) -> Sent;

    /// Whether anybody would receive a message on a literal subject (with `group`: as a member of that queue group).
    fn interest(&mut self, account: &str, subject: &[u8], group: &[u8]) -> bool;
}
