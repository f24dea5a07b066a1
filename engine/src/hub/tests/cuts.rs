//! The same output however the reads are cut.

use proptest::prelude::*;

use super::*;

fn operation() -> impl Strategy<Value = Vec<u8>> {
    let subject = prop::sample::select(vec!["a", "a.b", "a.*", ">", "a..b", "_INBOX.x.y", "_GR_.x", "b.c.d.e"]);
    let line = (subject, 0usize..70, 0usize..5, prop::sample::select(vec!["\r\n", "\n", " \r\n"])).prop_map(
        |(subject, size, kind, end)| {
            let body = "\r\nPING\r\n".repeat(9);
            let body = &body[..size];
            match kind {
                0 => format!("PUB {subject} {size}{end}{body}\r\n"),
                1 => format!("PUB {subject} re.x {size}{end}{body}\r\n"),
                2 => format!("HPUB {subject} re {} {size}{end}{body}\r\n", size / 2),
                3 => format!("SUB {subject} {size}{end}"),
                _ => format!("UNSUB {size} {}{end}", size % 3),
            }
            .into_bytes()
        },
    );
    let odd = prop::sample::select(vec![
        "PING\r\n",
        "CONNECT {}\r\n",
        "+OK\n",
        "INFO {}\r\n",
        "pInG x\r\n",
        "PUB",
        "X",
        "\r\n",
        "SUB \r\n",
    ]);
    prop_oneof![12 => line, 4 => odd.prop_map(|text| text.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..8)]
}

/// All output and events for input that comes in the given pieces; every CONNECT is answered at once.
fn whole(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Event>) {
    let mut hub = small();
    let conn = client(&mut hub, QUIET);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    for piece in pieces {
        hub.feed(conn, piece);
        loop {
            let now = hub.events();
            let answer = now.iter().any(|event| matches!(event, Event::Connect(..)));
            events.extend(now);
            if !answer {
                break;
            }
            hub.connected(conn, "A", QUIET, b"");
        }
        hub.turn(|_, bytes| out.extend_from_slice(&bytes));
    }
    (out, events)
}

proptest! {
    #[test]
    fn output_does_not_depend_on_where_reads_are_cut(
        operations in prop::collection::vec(operation(), 0..30),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let input = operations.concat();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        places.extend([0, input.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        let single: Vec<&[u8]> = input.chunks(1).collect();
        let wanted = whole(&[&input]);
        prop_assert_eq!(&whole(&pieces), &wanted);
        prop_assert_eq!(&whole(&single), &wanted);
    }
}
