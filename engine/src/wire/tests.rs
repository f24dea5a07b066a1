//! The parser against a naive model that sees the whole input and splits it with the standard library.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { max_control_line: 40, max_payload: 60, headers: true, auth_pending: false };

/// What an operation says, without borrowed bytes.
fn tell(step: &Step<'_>) -> String {
    match step {
        Step::Op(Op::Publish(publish)) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let reply = text(publish.reply);
            let spelt = text(publish.verbatim);
            if !spelt.is_empty() {
                let sizes = [publish.reply, publish.header_text, publish.size_text];
                let sizes = sizes.map(text).into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
                assert_eq!(spelt, format!("{sizes}\r\n{}\r\n", text(publish.body)));
            }
            format!("pub {} {reply} {} {:?}", text(publish.subject), publish.header_size, text(publish.body))
        }
        other => format!("{other:?}"),
    }
}

fn parse(pieces: &[&[u8]]) -> Vec<String> {
    let mut parser = Parser::default();
    let mut told = Vec::new();
    for piece in pieces {
        let mut cursor = Cursor::new(piece);
        loop {
            let step = parser.next(&mut cursor, &RULES);
            if matches!(step, Step::More) {
                break;
            }
            told.push(tell(&step));
            if matches!(step, Step::Fault(_)) {
                return told;
            }
        }
        assert!(cursor.rest().is_empty());
        assert!(parser.kept() <= RULES.max_control_line + RULES.max_payload + 20);
    }
    told
}

/// Well-formed operations only, told the same way.
fn model(mut input: &[u8]) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8(input[..end].to_vec()).unwrap();
        input = &input[end + 1..];
        let parts: Vec<&str> = line.split_ascii_whitespace().collect();
        let mut body = |size: &str| {
            let size: usize = size.parse().unwrap();
            let body = String::from_utf8(input[..size].to_vec()).unwrap();
            input = &input[size + 2..];
            body
        };
        let step = match (parts[0].to_ascii_uppercase().as_str(), &parts[1..]) {
            ("PUB", [subject, size]) => format!("pub {subject}  0 {:?}", body(size)),
            ("PUB", [subject, reply, size]) => format!("pub {subject} {reply} 0 {:?}", body(size)),
            ("HPUB", [subject, header, size]) => format!("pub {subject}  {header} {:?}", body(size)),
            ("HPUB", [subject, reply, header, size]) => format!("pub {subject} {reply} {header} {:?}", body(size)),
            ("SUB", [subject, sid]) => tell(&Step::Op(Op::Sub(subject.as_bytes(), b"", sid.as_bytes()))),
            ("SUB", [subject, queue, sid]) => {
                tell(&Step::Op(Op::Sub(subject.as_bytes(), queue.as_bytes(), sid.as_bytes())))
            }
            ("UNSUB", [sid]) => tell(&Step::Op(Op::Unsub(sid.as_bytes(), 0))),
            ("UNSUB", [sid, max]) => tell(&Step::Op(Op::Unsub(sid.as_bytes(), max.parse().unwrap_or(0)))),
            ("PING", _) => tell(&Step::Op(Op::Ping)),
            ("PONG", _) => tell(&Step::Op(Op::Pong)),
            _ => continue,
        };
        told.push(step);
    }
    told
}

fn well_formed() -> impl Strategy<Value = String> {
    let gap = prop::sample::select(vec![" ", "  ", "\t", " \t "]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\n", " \r\n"]);
    (0usize..11, gap, end, 0usize..60, 0usize..60, "[a-z]{1,4}", any::<bool>()).prop_map(
        |(kind, gap, end, size, header, name, lower)| {
            let body = &"PUB a 3\r\nabc\r\nSUB x 1\r\nPING\r\n".repeat(3)[..size];
            let header = header.min(size);
            let (word, rest) = match kind {
                0 | 1 => ("PUB", format!("{name}.x{gap}{size}{end}{body}\r\n")),
                2 => ("PUB", format!("{name}{gap}re{gap}{size}{end}{body}\r\n")),
                3 => ("HPUB", format!("{name}{gap}{header}{gap}{size}{end}{body}\r\n")),
                4 => ("HPUB", format!("{name}{gap}re{gap}{header}{gap}{size}{end}{body}\r\n")),
                5 => ("SUB", format!("{name}{gap}{size}{end}")),
                6 => ("SUB", format!("{name}{gap}q{gap}{size}{end}")),
                7 => ("UNSUB", format!("{size}{end}")),
                8 => ("UNSUB", format!("{size}{gap}{header}{end}")),
                9 => ("PING", end.to_owned()),
                _ => ("+OK", end.to_owned()),
            };
            let word = if lower { word.to_ascii_lowercase() } else { word.to_owned() };
            if kind < 9 {
                format!("{word}{gap}{rest}")
            } else {
                format!("{word}{rest}")
            }
        },
    )
}

proptest! {
    #[test]
    fn parses_as_the_model_however_it_is_cut(
        lines in prop::collection::vec((well_formed(), 1usize..3), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        // Repeats take the path that compares lines.
        let input: String = lines.into_iter().map(|(line, times)| line.repeat(times)).collect();
        let input = input.as_bytes();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        places.extend([0, input.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        let wanted = model(input);
        prop_assert_eq!(&parse(&[input]), &wanted);
        prop_assert_eq!(&parse(&pieces), &wanted);
        let single: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&parse(&single), &wanted);
    }

    #[test]
    fn any_bytes_end_in_the_same_fault(input in prop::collection::vec(
        prop_oneof![3 => prop::sample::select(b"PUBSHINGCOET+-R \t\r\n01a".to_vec()), 1 => any::<u8>()], 0..200,
    )) {
        let single: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(parse(&[&input]), parse(&single));
    }
}

#[test]
fn a_flood_without_a_line_end_is_cut_at_the_limit() {
    let mut parser = Parser::default();
    let flood = vec![b'a'; 1 << 20];
    assert_eq!(parser.next(&mut Cursor::new(b"SUB "), &RULES), Step::More);
    assert_eq!(parser.next(&mut Cursor::new(&flood), &RULES), Step::Fault(Fault::ControlLine));
    assert!(parser.kept() < 100);
}
