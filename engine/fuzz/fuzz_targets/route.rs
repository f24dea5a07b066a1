//! Whatever another server sends: no panic, and the same output however the reads are cut.
//!
//! The first byte chooses the length of the pieces, and by its highest bit whether the peer is known before they come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use streamd_engine::hub::{Event, Hub, Lane, Limits, Options};

const OPTIONS: Options = Options { verbose: false, pedantic: false, echo: true, headers: true, no_responders: true };

fn output<'a>(known: bool, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(u64, Vec<u8>)>, Vec<Event>) {
    let mut hub = Hub::new(Limits { max_payload: 256, max_control_line: 128, ..Limits::default() });
    let client = hub.open("A", b"", false);
    hub.feed(client, b"CONNECT {}\r\n");
    hub.connected(client, "A", OPTIONS, b"");
    hub.feed(client, b"SUB a 1\r\nSUB > q 2\r\nSUB a.* r 3\r\nUNSUB 3 2\r\n");
    let watch = hub.watch("A", b"a.b", b"");
    let (route, other) = (hub.open_route(), hub.open_route());
    hub.route_ready(other, "C", Lane::default());
    if known {
        hub.route_ready(route, "B", Lane::default());
    }
    let (mut out, mut events) = (vec![(client, Vec::new()), (route, Vec::new()), (other, Vec::new())], Vec::new());
    let mut collect = |hub: &mut Hub| loop {
        hub.turn(|conn, bytes| {
            if let Some((_, all)) = out.iter_mut().find(|(known, _)| *known == conn) {
                all.extend_from_slice(&bytes);
            }
        });
        let now = hub.events();
        let connect = now.iter().any(|event| matches!(event, Event::Connect(..)));
        events.extend(now);
        if !connect {
            break;
        }
        hub.route_welcome(route);
    };
    for piece in pieces {
        hub.feed(route, piece);
        collect(&mut hub);
    }
    hub.route_ready(route, "B", Lane { account: Some("A".into()), without: Vec::new() });
    hub.feed(client, b"PUB a.b re 2\r\nhi\r\nHPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
    collect(&mut hub);
    hub.close(route);
    collect(&mut hub);
    assert!(!hub.interested(watch));
    hub.close(client);
    assert_eq!(hub.statistics().subscriptions, 0);
    (out, events)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, input)) = data.split_first() else { return };
    let (known, cut) = (first & 0x80 != 0, usize::from(first & 0x7f).max(1));
    let whole = output(known, std::iter::once(input));
    assert_eq!(output(known, input.chunks(cut)), whole);
    assert_eq!(output(known, input.chunks(1)), whole);
});
