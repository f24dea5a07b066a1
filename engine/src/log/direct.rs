//! Direct gets: what is asked for, and the answers.
//!
//! Source: nats-server 2.15.2. Only the plain forms are read here; everything else is left to whoever parses whole JSON.

use super::StreamState;
use crate::batch::{Batch, Message};
use crate::codec::puback::Digits;
use crate::codec::record::{self, Corrupt};
use crate::publish::{Outgoing, Publisher};
use crate::subject;

/// A request that is left to the caller.
pub const NOT_OURS: i64 = -1;

impl StreamState {
    /// Sequences asked for, one per message: a live sequence, 0 for not found, or NOT_OURS.
    pub fn direct(&self, batch: &Batch, prefix: &[u8]) -> Vec<i64> {
        batch.iter().map(|message| self.direct_one(&message, prefix)).collect()
    }

    fn direct_one(&self, message: &Message<'_>, prefix: &[u8]) -> i64 {
        let Some(rest) = message.subject.strip_prefix(prefix) else { return NOT_OURS };
        // A header may demand an API level.
        if !message.headers.is_empty() {
            return NOT_OURS;
        }
        match (rest.split_first(), message.payload.is_empty()) {
            (Some((b'.', subject)), true) => self.direct_last(subject),
            (None, false) => match parse(message.payload) {
                Some(Request::Sequence(0)) | None => NOT_OURS,
                Some(Request::Sequence(sequence)) if self.live(sequence) => sequence as i64,
                Some(Request::Sequence(_)) => 0,
                Some(Request::Last(subject)) => self.direct_last(subject),
            },
            _ => NOT_OURS,
        }
    }

    fn direct_last(&self, subject: &[u8]) -> i64 {
        if subject.is_empty() || subject::is_pattern(subject) {
            return NOT_OURS;
        }
        match self.last_of(subject) {
            (last, true) => last as i64,
            _ => NOT_OURS,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Request<'a> {
    Sequence(u64),
    Last(&'a [u8]),
}

/// `{"seq":N}` or `{"last_by_subj":"s"}` with whitespace between tokens and nothing else.
fn parse(body: &[u8]) -> Option<Request<'_>> {
    let inner = body.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?.trim_ascii();
    if let Some(rest) = inner.strip_prefix(b"\"seq\"") {
        let digits = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        if digits.is_empty() || digits.len() > 18 || (digits[0] == b'0' && digits.len() > 1) {
            return None;
        }
        let number = digits
            .iter()
            .try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))?;
        return Some(Request::Sequence(number));
    }
    let rest = inner.strip_prefix(b"\"last_by_subj\"")?.trim_ascii_start().strip_prefix(b":")?;
    let subject = rest.trim_ascii_start().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let plain = |byte: &u8| *byte > b' ' && *byte != b'"' && *byte != b'\\';
    subject.iter().all(plain).then_some(Request::Last(subject))
}

/// Answer direct gets: the record's body with its own headers and where it comes from; None: 404. Those in `skip` are left
/// alone. The shorter of the columns ends it.
pub fn reply(
    publisher: &mut impl Publisher,
    account: &str,
    batch: &Batch,
    stream: &str,
    values: &[Option<&[u8]>],
    skip: &[bool],
) -> Result<(), Corrupt> {
    for ((message, value), skipped) in batch.iter().zip(values).zip(skip) {
        if *skipped || message.reply.is_empty() {
            continue;
        }
        let to = message.reply;
        let Some(value) = value else {
            let headers: &[&[u8]] = &[b"NATS/1.0 404 Message Not Found\r\n\r\n"];
            publisher.publish(account, Outgoing { to, subject: to, reply: b"", headers, payload: &[] });
            continue;
        };
        let record = record::decode(value)?;
        let time = timestamp(record.timestamp_ns);
        let own = match record.headers {
            [] => &b"NATS/1.0\r\n"[..],
            headers => headers.strip_suffix(b"\r\n").unwrap_or(headers),
        };
        let digits = Digits::new(record.sequence);
        let headers: &[&[u8]] = &[
            own,
            b"Nats-Stream: ",
            stream.as_bytes(),
            b"\r\nNats-Subject: ",
            record.subject,
            b"\r\nNats-Sequence: ",
            digits.bytes(),
            b"\r\nNats-Time-Stamp: ",
            time.as_bytes(),
            b"\r\n\r\n",
        ];
        publisher.publish(account, Outgoing { to, subject: to, reply: b"", headers, payload: &[record.payload] });
    }
    Ok(())
}

/// RFC3339Nano in UTC as Go prints it: no trailing zeros in the fraction.
pub fn timestamp(timestamp_ns: i64) -> String {
    let (seconds, nanos) = (timestamp_ns.div_euclid(1_000_000_000), timestamp_ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if nanos != 0 {
        text.push_str(format!(".{nanos:09}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Year, month and day of a day since 1970. Years are counted from March, so that a leap day ends its year.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_400_YEARS: i64 = 146_097;
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days.div_euclid(DAYS_400_YEARS), days.rem_euclid(DAYS_400_YEARS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_requests_are_read_and_nothing_else() {
        assert_eq!(Some(Request::Sequence(12)), parse(b" { \"seq\" : 12 } "));
        assert_eq!(Some(Request::Last(b"a.b")), parse(b"{\"last_by_subj\":\"a.b\"}"));
        for other in [
            "",
            "{",
            "{}",
            "{\"seq\":-1}",
            "{\"seq\":1,\"batch\":2}",
            "{\"seq\":01}",
            "{\"last_by_subj\":\"a\",\"seq\":1}",
            "{\"last_by_subj\":\"a\\u0041\"}",
            "{\"seq\":1.5}",
            "\"",
            "{\"last_by_subj\":\"}",
        ] {
            assert_eq!(None, parse(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn timestamps_are_as_go_prints_them() {
        assert_eq!("1970-01-01T00:00:00Z", timestamp(0));
        assert_eq!("1969-12-31T23:59:59.999999999Z", timestamp(-1));
        assert_eq!("2024-02-29T12:30:00.5Z", timestamp(1_709_209_800_500_000_000));
        assert_eq!("2000-03-01T00:00:00.00001Z", timestamp(951_868_800_000_010_000));
        assert_eq!("2026-12-31T23:59:59Z", timestamp(1_798_761_599_000_000_000));
    }
}
