//! What a message counts for is the same when it is admitted and when its record is read again, whatever was cut from its
//! headers: else a restart would take the index for damaged.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use streamd_engine::batch::{Batch, Message};
use streamd_engine::codec::stan;
use streamd_engine::log::{Identity, Limits, StreamState};

fn bytes(channel_len: usize, memory: bool, headers: &[u8]) -> u64 {
    let identity = || Identity { name: "S".to_owned(), memory, channel_len, ..Identity::default() };
    let mut batch = Batch::default();
    batch.push(Message { subject: b"a.b", headers, payload: b"body", ..Message::default() });
    let mut state = StreamState::new(identity(), Limits::default());
    let admission = state.admit(&batch, 1_700_000_000_000_000_000);
    let values: Vec<&[u8]> = admission.block.from_place(0).map(|(_, value)| value).collect();
    let mut again = StreamState::new(identity(), Limits::default());
    again.replay(&values).unwrap();
    assert_eq!(again.bytes(), state.bytes(), "{:?}", String::from_utf8_lossy(headers));
    state.bytes()
}

#[test]
fn headers_count_as_they_are_stored() {
    let lone = b"NATS/1.0\r\nNats-Request-Info: {}\r\n\r\n";
    let beside = b"NATS/1.0\r\nNats-Request-Info: {}\r\na: b\r\n\r\n";
    let status = b"NATS/1.0 503\r\na: b\r\n\r\n";
    let left = b"NATS/1.0\r\na: b\r\n\r\n";
    assert_eq!(bytes(0, false, b""), 30 + 3 + 4);
    assert_eq!(bytes(0, false, lone), 30 + 3 + 4, "nothing is left of it");
    for headers in [&left[..], beside, status] {
        assert_eq!(bytes(0, false, headers), 34 + 3 + 4 + left.len() as u64);
        assert_eq!(bytes(0, true, headers), 16 + 3 + 4 + left.len() as u64);
    }
}

#[test]
fn a_channel_counts_as_nats_streaming_does() {
    let plain = stan::message_len(1, 3, 0, 4) + stan::INDEX_ENTRY;
    assert_eq!(bytes(3, false, b""), plain as u64);
    assert_eq!(bytes(3, true, b""), (plain - stan::INDEX_ENTRY) as u64);
    assert_eq!(bytes(3, false, b"NATS/1.0\r\na: b\r\n\r\n"), plain as u64, "a native publisher's");
    let reply = stan::message_len(1, 3, 5, 4) + stan::INDEX_ENTRY;
    assert_eq!(bytes(3, false, &stan::reply_headers(b"reply")), reply as u64);
}
