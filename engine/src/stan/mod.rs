//! NATS Streaming's machines: who may publish into which channel, and one subscription or queue group.
//!
//! Source: what nats-streaming-server 0.25.6 was seen to do.

mod group;
mod members;
mod persist;
mod publishers;

pub use group::{Acks, Group};
pub use members::Member;
pub use publishers::{Publishers, Refused, Sorted};
