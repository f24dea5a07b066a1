//! What consumers' clients publish to an ack subject: whose message, and what became of it.
//!
//! Source: ADR-15 (subject forms v1 and v2), the JetStream ack bodies; durations as Go writes them.

const SECOND_NS: i64 = 1_000_000_000;

/// Which delivery an ack speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// How often the message had been delivered.
    pub deliveries: u32,
    /// Place in the stream.
    pub stream_seq: u64,
    /// Count of the consumer's deliveries.
    pub consumer_seq: u64,
}

/// Read an ack subject of the consumer whose v1 subjects begin with `prefix` (`$JS.ACK.<stream>.<consumer>.`).
///
/// The v2 form has the domain and the account's hash in front of the stream. Tokens beyond the known ones are ignored.
/// None: another consumer's or not an ack subject.
#[inline]
pub fn reference(subject: &[u8], prefix: &[u8]) -> Option<Reference> {
    let rest = match subject.strip_prefix(prefix) {
        Some(rest) => rest,
        None => v2_numbers(subject, prefix)?,
    };
    let (deliveries, rest) = number(rest)?;
    let (stream_seq, rest) = number(rest)?;
    let (consumer_seq, rest) = number(rest)?;
    let dot = memchr::memchr(b'.', rest)?;
    if dot == 0 || rest.len() == dot + 1 {
        return None;
    }
    Some(Reference { deliveries: u32::try_from(deliveries).ok()?, stream_seq, consumer_seq })
}

fn v2_numbers<'a>(subject: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    const COMMON: &[u8] = b"$JS.ACK.";
    let mut rest = subject.strip_prefix(COMMON)?;
    for _ in 0..2 {
        rest = &rest[memchr::memchr(b'.', rest)? + 1..];
    }
    rest.strip_prefix(prefix.strip_prefix(COMMON)?)
}

/// A decimal number and what follows the dot behind it.
#[inline]
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            b'.' if at > 0 => return Some((value, &text[at + 1..])),
            _ => return None,
        }
    }
    None
}

/// What an ack says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Done with it.
    Ack,
    /// Deliver it again, after so many nanoseconds (0: at once).
    Nak(i64),
    /// Work goes on: the wait starts anew.
    Progress,
    /// Never deliver it again, and why.
    Term(&'a [u8]),
    /// Done with it; here is a pull request.
    Next(&'a [u8]),
    /// Not known.
    Other,
}

/// Read the body of an ack.
#[inline]
pub fn body(payload: &[u8]) -> Body<'_> {
    match payload {
        b"" | b"+ACK" | b"+OK" => Body::Ack,
        b"+WPI" => Body::Progress,
        _ => match payload.split_first_chunk::<4>() {
            Some((b"+NXT", rest)) => Body::Next(rest.trim_ascii()),
            Some((b"-NAK", rest)) => Body::Nak(nak_delay(rest.trim_ascii())),
            _ => match payload.strip_prefix(b"+TERM") {
                Some(reason) => Body::Term(reason.trim_ascii()),
                None => Body::Other,
            },
        },
    }
}

/// Delay of a NAK; what can't be understood is none, as in nats-server.
fn nak_delay(text: &[u8]) -> i64 {
    let delay = match text.first() {
        None => None,
        Some(b'{') => json_delay(text),
        Some(_) => go_duration(text),
    };
    delay.unwrap_or(0).max(0)
}

/// The integer member "delay" of a flat JSON object. Keys compare without case, as Go's decoder does.
fn json_delay(text: &[u8]) -> Option<i64> {
    let mut rest = text.strip_prefix(b"{")?.strip_suffix(b"}")?.trim_ascii();
    while !rest.is_empty() {
        let (key, after) = json_string(rest)?;
        let after = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        if key.eq_ignore_ascii_case(b"delay") {
            let end = after.iter().position(|byte| *byte == b',').unwrap_or(after.len());
            return std::str::from_utf8(after[..end].trim_ascii_end()).ok()?.parse().ok();
        }
        let after = match after.first()? {
            b'"' => json_string(after)?.1,
            _ => &after[after.iter().position(|byte| *byte == b',').unwrap_or(after.len())..],
        };
        let after = after.trim_ascii_start();
        rest = after.strip_prefix(b",").unwrap_or(after).trim_ascii_start();
    }
    None
}

fn json_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let mut escaped = false;
    for (at, byte) in inner.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&inner[..at], &inner[at + 1..])),
            _ => {}
        }
    }
    None
}

/// A duration such as `5s`, `1h30m` or `-1.5ms`, in nanoseconds.
pub fn go_duration(text: &[u8]) -> Option<i64> {
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if rest == b"0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0i64;
    while !rest.is_empty() {
        let (whole, digits, after) = digits(rest)?;
        let (fraction, fraction_digits, after) = match after {
            [b'.', after @ ..] => digits_or_none(after)?,
            _ => (0, 0, after),
        };
        if digits + fraction_digits == 0 {
            return None;
        }
        let (unit_ns, after) = unit(after)?;
        // The fraction has at most 18 digits and a unit fits 42 bits, so that 128 bits hold their product.
        let part = i128::from(fraction) * i128::from(unit_ns) / 10i128.pow(fraction_digits);
        total = total.checked_add(whole.checked_mul(unit_ns)?)?.checked_add(i64::try_from(part).ok()?)?;
        rest = after;
    }
    Some(if negative { -total } else { total })
}

/// Leading digits: their value, how many, what follows.
fn digits(text: &[u8]) -> Option<(i64, u32, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value = text[..count]
        .iter()
        .try_fold(0i64, |value, byte| value.checked_mul(10)?.checked_add(i64::from(byte - b'0')))?;
    Some((value, count as u32, &text[count..]))
}

/// The same for a fraction, whose digits beyond what matters are dropped.
fn digits_or_none(text: &[u8]) -> Option<(i64, u32, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (value, used, _) = digits(&text[..count.min(18)])?;
    Some((value, used, &text[count..]))
}

fn unit(text: &[u8]) -> Option<(i64, &[u8])> {
    const UNITS: [(&str, i64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", SECOND_NS),
        ("m", 60 * SECOND_NS),
        ("h", 3600 * SECOND_NS),
    ];
    UNITS.iter().find_map(|(name, ns)| text.strip_prefix(name.as_bytes()).map(|rest| (*ns, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREFIX: &[u8] = b"$JS.ACK.S.C.";

    #[test]
    fn both_subject_forms_and_further_tokens_are_read() {
        let wanted = Some(Reference { deliveries: 1, stream_seq: 22, consumer_seq: 333 });
        for good in [
            "$JS.ACK.S.C.1.22.333.1700000000000000000.5",
            "$JS.ACK.S.C.1.22.333.1700000000000000000.5.more.tokens",
            "$JS.ACK.S.C.1.22.333.1700000000000000000.5@route",
            "$JS.ACK._.hash1234.S.C.1.22.333.1700000000000000000.5",
            "$JS.ACK.hub.hash1234.S.C.1.22.333.1700000000000000000.5.token",
        ] {
            assert_eq!(reference(good.as_bytes(), PREFIX), wanted, "{good}");
        }
        for bad in [
            "",
            "$JS.ACK.S.C.",
            "$JS.ACK.S.C.1.22.333",
            "$JS.ACK.S.C.1.22.333.17",
            "$JS.ACK.S.C.1.22.333.17.",
            "$JS.ACK.S.C.1.22.333..5",
            "$JS.ACK.S.D.1.22.333.17.5",
            "$JS.ACK.S.C.1.x.333.17.5",
            "$JS.ACK.S.C.1..333.17.5",
            "$JS.ACK.S.C.1.99999999999999999999.333.17.5",
            "$JS.ACK._.hash.S.D.1.22.333.17.5",
        ] {
            assert_eq!(reference(bad.as_bytes(), PREFIX), None, "{bad}");
        }
    }

    #[test]
    fn bodies() {
        for (text, wanted) in [
            ("", Body::Ack),
            ("+ACK", Body::Ack),
            ("+OK", Body::Ack),
            ("+WPI", Body::Progress),
            ("-NAK", Body::Nak(0)),
            ("-NAK 5s", Body::Nak(5_000_000_000)),
            ("-NAK {\"delay\":1000}", Body::Nak(1000)),
            ("-NAK {\"a\": \"x,\\\"y\", \"b\": 1, \"Delay\" : 7 }", Body::Nak(7)),
            ("-NAK {\"delay\": 1.5}", Body::Nak(0)),
            ("-NAK {\"delay\"", Body::Nak(0)),
            ("-NAK -5s", Body::Nak(0)),
            ("-NAK nonsense", Body::Nak(0)),
            ("+TERM", Body::Term(b"")),
            ("+TERM bad input", Body::Term(b"bad input")),
            ("+NXT", Body::Next(b"")),
            ("+NXT {\"batch\":5}", Body::Next(b"{\"batch\":5}")),
            ("+ack", Body::Other),
            ("hello", Body::Other),
        ] {
            assert_eq!(body(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("1ns", Some(1)),
            ("1.5us", Some(1_500)),
            ("2µs", Some(2_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("1h1m1s", Some(3_661_000_000_000)),
            ("-10ms", Some(-10_000_000)),
            ("1.0000000000000000000000001s", Some(1_000_000_000)),
            ("", None),
            ("5", None),
            (".s", None),
            ("s", None),
            ("5d", None),
            ("10000000000h", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(go_duration(text.as_bytes()), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(subject: Vec<u8>, payload: Vec<u8>, text in "[-+]?(NAK|TERM)?[ {}\":,.0-9a-zµ]{0,24}") {
            let _ = reference(&subject, PREFIX);
            let _ = reference(&[PREFIX, &subject[..]].concat(), PREFIX);
            let _ = body(&payload);
            let _ = body(text.as_bytes());
            let _ = go_duration(text.as_bytes());
            let _ = body(format!("-NAK {text}").as_bytes());
        }
    }
}
