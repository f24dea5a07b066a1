//! The parser against a naive model that sees the whole input and splits it with the standard library.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;

use super::*;

/// What an operation says, without borrowed bytes.
fn tell(step: &Step<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match step {
        Step::Op(Op::Message(message)) => {
            let spelt = text(message.verbatim);
            if !spelt.is_empty() {
                let sizes = [message.reply, message.header_text, message.size_text];
                let sizes = sizes.map(text).into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
                assert_eq!(spelt, format!("{sizes}\r\n{}\r\n", text(message.body)));
            }
            let groups: Vec<String> = message.groups().map(text).collect();
            let (account, subject, reply) = (text(message.account), text(message.subject), text(message.reply));
            format!("{account} {subject} {reply} {groups:?} {} {:?}", message.header_size, text(message.body))
        }
        other => format!("{other:?}"),
    }
}

fn parse(pieces: &[&[u8]], known: bool) -> Vec<String> {
    let mut parser = Parser::default();
    let mut told = Vec::new();
    for (place, piece) in pieces.iter().enumerate() {
        let mut cursor = Cursor::new(piece);
        loop {
            let step = parser.next(&mut cursor, known);
            if matches!(step, Step::More) {
                break;
            }
            told.push(tell(&step));
            match step {
                Step::Malformed => return told,
                Step::Early => {
                    // What it leaves is what wasn't told.
                    let mut rest = parser.take();
                    rest.extend_from_slice(cursor.rest());
                    rest.extend(pieces[place + 1..].concat());
                    told.push(format!("{rest:?}"));
                    return told;
                }
                _ => {}
            }
        }
        assert!(cursor.rest().is_empty());
    }
    told
}

fn model(mut input: &[u8]) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8(input[..end].to_vec()).unwrap();
        input = &input[end + 1..];
        let mut parts: Vec<&str> = line.split_ascii_whitespace().collect();
        let word = parts.remove(0).to_ascii_uppercase();
        let text = line.trim_ascii().split_once([' ', '\t']).map_or("", |(_, text)| text.trim_ascii()).as_bytes();
        match word.as_str() {
            "CONNECT" => told.push(tell(&Step::Op(Op::Connect(text)))),
            "INFO" => told.push(tell(&Step::Op(Op::Info(text)))),
            "PING" => told.push(tell(&Step::Op(Op::Ping))),
            "PONG" => told.push(tell(&Step::Op(Op::Pong))),
            "-ERR" => told.push(tell(&Step::Op(Op::Err(&text[1..text.len() - 1])))),
            "RS+" | "RS-" | "LS+" | "LS-" => {
                let origin = if word.starts_with('L') { parts.remove(0) } else { "" };
                told.push(tell(&Step::Op(Op::Interest(Interest {
                    came: word.ends_with('+'),
                    origin: origin.as_bytes(),
                    account: parts[0].as_bytes(),
                    subject: parts[1].as_bytes(),
                    queue: parts.get(2).unwrap_or(&"").as_bytes(),
                    weight: parts.get(3).map_or(0, |weight| weight.parse().unwrap()),
                }))));
            }
            "RMSG" | "HMSG" | "LMSG" => {
                if word == "LMSG" {
                    parts.remove(0);
                }
                let size: usize = parts.pop().unwrap().parse().unwrap();
                let headers = if word == "RMSG" { "0" } else { parts.pop().unwrap() };
                let headers: usize = headers.parse().unwrap();
                let (account, subject) = (parts.remove(0), parts.remove(0));
                let (reply, groups) = match parts.as_slice() {
                    [] => ("", vec![]),
                    [reply] => (*reply, vec![]),
                    ["+", reply, groups @ ..] => (*reply, groups.to_vec()),
                    [_, groups @ ..] => ("", groups.to_vec()),
                };
                let body = String::from_utf8(input[..size].to_vec()).unwrap();
                input = &input[size + 2..];
                told.push(format!("{account} {subject} {reply} {groups:?} {headers} {body:?}"));
            }
            _ => {}
        }
    }
    told
}

fn well_formed() -> impl Strategy<Value = String> {
    let gap = prop::sample::select(vec![" ", "  ", "\t", " \t "]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\n", " \r\n"]);
    let groups = prop::collection::vec("[a-z|+]{1,3}", 1..5);
    (0usize..16, gap, end, 0usize..60, 0usize..60, "[a-z]{1,4}", groups, any::<bool>()).prop_map(
        |(kind, gap, end, size, header, name, groups, lower)| {
            let body = &"RMSG a b 3\r\nabc\r\nRS+ x y\r\nPING\r\n".repeat(3)[..size];
            let header = header.min(size);
            let middle = match kind % 4 {
                0 => String::new(),
                1 => format!("re{gap}"),
                2 => format!("+{gap}re{gap}{}{gap}", groups.join(gap)),
                _ => format!("|{gap}{}{gap}", groups.join(gap)),
            };
            let (word, rest) = match kind {
                0..4 => ("RMSG", format!("$G{gap}{name}{gap}{middle}{size}{end}{body}\r\n")),
                4..8 => ("HMSG", format!("A{gap}{name}{gap}{middle}{header}{gap}{size}{end}{body}\r\n")),
                8 => ("LMSG", format!("o{gap}A{gap}{name}{gap}{middle}{header}{gap}{size}{end}{body}\r\n")),
                9 => ("RS+", format!("A{gap}{name}.>{end}")),
                10 => ("RS+", format!("A{gap}{name}.*{gap}q{gap}{size}{end}")),
                11 => ("RS-", format!("A{gap}{name}{gap}q{end}")),
                12 => ("LS+", format!("o{gap}A{gap}{name}{gap}q{gap}{size}{end}")),
                13 => ("LS-", format!("o{gap}A{gap}{name}{end}")),
                14 => ("INFO", format!("{{\"{name}\": {size}}}{end}")),
                _ => match size % 6 {
                    0 => ("PING", format!("{name}{end}")),
                    1 => ("PONG", end.to_owned()),
                    2 => ("+OK", end.to_owned()),
                    3 => ("A+", format!("{name}{end}")),
                    4 => ("CONNECT", format!("{{}}{end}")),
                    _ => ("-ERR", format!("'{name} {name}'{end}")),
                },
            };
            let word = if lower { word.to_ascii_lowercase() } else { word.to_owned() };
            format!("{word}{gap}{rest}")
        },
    )
}

fn pieces<'a>(input: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    places.extend([0, input.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
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
        let wanted = model(input);
        prop_assert_eq!(&parse(&[input], true), &wanted);
        prop_assert_eq!(&parse(&pieces(input, &cuts), true), &wanted);
        let single: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&parse(&single, true), &wanted);
        prop_assert_eq!(parse(&single, false), parse(&[input], false));
    }

    #[test]
    fn any_bytes_end_the_same_way(input in prop::collection::vec(
        prop_oneof![3 => prop::sample::select(b"RMSGLHA+-PINGCOE{ \t\r\n01a|".to_vec()), 1 => any::<u8>()], 0..200,
    ), known in any::<bool>()) {
        let single: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(parse(&[&input], known), parse(&single, known));
    }
}

#[test]
fn a_flood_without_a_line_end_is_cut_at_the_limit() {
    for (start, known, limit) in [("RS+ ", true, 1 << 20), ("INFO {", false, 64 << 10)] {
        let mut parser = Parser::default();
        let flood = vec![b'a'; 4 << 20];
        assert_eq!(parser.next(&mut Cursor::new(start.as_bytes()), known), Step::More);
        assert_eq!(parser.next(&mut Cursor::new(&flood), known), Step::Malformed);
        assert!(parser.kept() <= limit + 10);
    }
}

#[test]
fn a_message_in_pieces_has_room_at_once() {
    let message = [b"RMSG A s 100000\r\n".as_slice(), &vec![b'a'; 100_000], b"\r\n"].concat();
    for first in [5, 17, 1000] {
        let mut parser = Parser::default();
        let (front, rest) = message.split_at(first);
        assert_eq!(parser.next(&mut Cursor::new(front), true), Step::More);
        assert_eq!(parser.next(&mut Cursor::new(&rest[..1000]), true), Step::More);
        let room = parser.tail.capacity();
        assert!(room >= message.len());
        let mut cursor = Cursor::new(&rest[1000..]);
        assert!(matches!(parser.next(&mut cursor, true), Step::Op(Op::Message(_))));
        assert_eq!(parser.tail.capacity(), room);
    }
}
