//! The header lines that decide about storing. Keys compare case-sensitively and the first of equal keys counts; a key
//! without a value counts as absent.
//!
//! Source: the NATS client protocol and nats-server 2.15.2.

/// What a block asks for. None: the key is not there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wishes<'a> {
    /// Nats-Msg-Id.
    pub id: Option<&'a [u8]>,
    /// Nats-Expected-Stream.
    pub stream: Option<&'a [u8]>,
    /// Nats-Expected-Last-Sequence; what isn't a number equals no sequence.
    pub last_seq: Option<u64>,
    /// Nats-Expected-Last-Subject-Sequence.
    pub last_subject_seq: Option<u64>,
    /// Nats-Expected-Last-Subject-Sequence-Subject.
    pub last_subject: Option<&'a [u8]>,
    /// Nats-Expected-Last-Msg-Id.
    pub last_id: Option<&'a [u8]>,
    /// Nats-Rollup.
    pub rollup: Option<&'a [u8]>,
    /// Nats-TTL is there.
    pub ttl: bool,
    /// Nats-Incr is there.
    pub incr: bool,
    /// Nats-Batch-Id is there.
    pub batch: bool,
    /// Nats-Schedule is there.
    pub schedule: bool,
    /// Nats-Stream-Source is there.
    pub source: bool,
    /// What must not be stored: the status behind the version, as readers would take the message for a notice of the
    /// server, and the line Nats-Request-Info with its end. Empty spans for nothing.
    pub cuts: [(usize, usize); 2],
}

const VERSION: &[u8] = b"NATS/1.0";
/// Of a block without lines: what is left of others is not worth storing.
const EMPTY_LENGTH: usize = VERSION.len() + 4;
/// A number that no sequence equals, for values that aren't one.
const NO_SEQUENCE: u64 = u64::MAX;

/// Read a block. Lines without a colon are passed over; a block that is cut off ends where it ends.
pub fn parse(block: &[u8]) -> Wishes<'_> {
    let mut wishes = Wishes::default();
    let mut at = match memchr::memchr(b'\n', block) {
        Some(end) => end + 1,
        None => return wishes,
    };
    let first = block[..at].trim_ascii_end();
    if first.starts_with(VERSION) {
        wishes.cuts[0] = (VERSION.len(), first.len());
    }
    while at < block.len() {
        let end = memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |found| at + found + 1);
        let line = &block[at..end];
        if line.starts_with(b"Nats-") {
            take(&mut wishes, line, (at, end));
        }
        at = end;
    }
    let cut: usize = wishes.cuts.iter().map(|(from, to)| to - from).sum();
    if cut > 0 && block.len() - cut == EMPTY_LENGTH {
        wishes.cuts = [(0, block.len()), (block.len(), block.len())];
    }
    wishes
}

fn take<'a>(wishes: &mut Wishes<'a>, line: &'a [u8], span: (usize, usize)) {
    let Some(colon) = memchr::memchr(b':', line) else { return };
    let value = line[colon + 1..].trim_ascii();
    if &line[5..colon] == b"Request-Info" && wishes.cuts[1] == (0, 0) {
        wishes.cuts[1] = span;
    }
    if value.is_empty() {
        return;
    }
    match &line[5..colon] {
        b"Msg-Id" => keep(&mut wishes.id, value),
        b"Expected-Stream" => keep(&mut wishes.stream, value),
        b"Expected-Last-Sequence" => keep(&mut wishes.last_seq, number(value)),
        b"Expected-Last-Subject-Sequence" => keep(&mut wishes.last_subject_seq, number(value)),
        b"Expected-Last-Subject-Sequence-Subject" => keep(&mut wishes.last_subject, value),
        b"Expected-Last-Msg-Id" => keep(&mut wishes.last_id, value),
        b"Rollup" => keep(&mut wishes.rollup, value),
        b"TTL" => wishes.ttl = true,
        b"Incr" => wishes.incr = true,
        b"Batch-Id" => wishes.batch = true,
        b"Schedule" => wishes.schedule = true,
        b"Stream-Source" => wishes.source = true,
        _ => {}
    }
}

fn keep<T>(place: &mut Option<T>, value: T) {
    if place.is_none() {
        *place = Some(value);
    }
}

/// Decimal digits, at least one; anything else is NO_SEQUENCE.
fn number(text: &[u8]) -> u64 {
    if text.len() > 19 {
        return NO_SEQUENCE;
    }
    text.iter()
        .try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
        .unwrap_or(NO_SEQUENCE)
}

/// The Nats-Msg-Id of a block, empty if there is none.
pub fn message_id(block: &[u8]) -> &[u8] {
    parse(block).id.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_keys_are_found() {
        let block = b"NATS/1.0\r\nA: b\r\nNats-Msg-Id:  x y \r\nNats-Msg-Id: z\r\nNats-Expected-Last-Sequence: 12\r\n\
            nats-rollup: sub\r\nNats-Rollup:all\r\nNats-Request-Info: {}\r\nNats-TTL: 1\r\n\r\n";
        let wishes = parse(block);
        assert_eq!(Some(&b"x y"[..]), wishes.id);
        assert_eq!(Some(12), wishes.last_seq);
        assert_eq!(Some(&b"all"[..]), wishes.rollup);
        assert!(wishes.ttl && !wishes.incr);
        let (from, to) = wishes.cuts[1];
        assert_eq!(b"Nats-Request-Info: {}\r\n", &block[from..to]);
        assert_eq!(wishes.cuts[0], (8, 8));
        assert_eq!(parse(b"NATS/1.0 503 No\r\nA: b\r\n\r\n").cuts[0], (8, 15));
        assert_eq!(parse(b"NATS/1.0 503 No\r\n\r\n").cuts, [(0, 19), (19, 19)]);
        assert_eq!(parse(b"NATS/1.0\r\n\r\n").cuts[0], (8, 8));
        assert_eq!(parse(b"NATS/1.0\r\nNats-Rollup:\r\nNats-Expected-Last-Sequence: \r\n\r\n").rollup, None);
        assert_eq!(Some(NO_SEQUENCE), parse(b"NATS/1.0\r\nNats-Expected-Last-Sequence: x\r\n\r\n").last_seq);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(block in "(NATS/1.0|Nats-|Msg-Id|[: \r\n]|Rollup){0,20}") {
            parse(block.as_bytes());
        }
    }
}
