//! Whatever a client sends: no panic, bounded memory, and the same output however the reads are cut.
//!
//! The first byte chooses the length of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use streamd_engine::hub::{Event, Hub, Limits, Options};

const OPTIONS: Options = Options { verbose: true, pedantic: true, echo: true, headers: true, no_responders: true };

fn output<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<Event>) {
    let mut hub = Hub::new(Limits { max_payload: 256, max_control_line: 128, ..Limits::default() });
    let conn = hub.open("A", b"", false);
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
            hub.connected(conn, "A", OPTIONS, b"INFO {}\r\n");
        }
        hub.turn(|_, bytes| out.extend_from_slice(&bytes));
    }
    hub.close(conn);
    assert_eq!(hub.statistics().subscriptions, 0);
    (out, events)
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, input)) = data.split_first() else { return };
    let whole = output(std::iter::once(input));
    assert_eq!(output(input.chunks(usize::from(*cut).max(1))), whole);
    assert_eq!(output(input.chunks(1)), whole);
});
