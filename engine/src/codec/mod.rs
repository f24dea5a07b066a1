//! Stateless forms: frames of Raft, the stored record and its sealed form, publish acks, deliveries and acks of JetStream
//! and of NATS Streaming. Neither parser nor trie know them.

pub mod ack;
pub mod delivery;
pub mod frame;
pub mod pack;
pub mod puback;
pub mod record;
pub mod seal;
pub mod stan;
pub mod status;
pub mod varint;
