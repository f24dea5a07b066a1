//! Native engine of streamd: bytes in, bytes and events out.
//!
//! No sockets, clocks, files or Python objects below `py`, the skin. The manual for its users is `streamd/_engine.pyi`.

pub mod batch;
pub mod codec;
pub mod consumer;
pub mod hub;
pub mod log;
pub mod pages;
pub mod publish;
pub mod stan;
pub mod subject;
pub mod trie;
pub mod wire;

#[cfg(feature = "python")]
mod py;
