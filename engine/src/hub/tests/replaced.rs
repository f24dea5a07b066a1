//! A connection between servers takes over from another one: nothing is lost, nor told twice.

use super::routes::{routed, text};
use super::*;

#[test]
fn a_route_is_read_to_its_end_before_the_next_one() {
    for abrupt in [false, true] {
        let mut hub = small();
        let conn = client(&mut hub, QUIET);
        hub.feed(conn, b"SUB > 1\r\n");
        // Which was opened first doesn't matter.
        let newer = hub.open_route();
        let older = routed(&mut hub).0;
        hub.feed(older, b"RS+ A x\r\n");
        hub.feed(newer, b"RS+ A x\r\nRMSG A a 1\r\n");
        hub.route_ready(newer, "B", Lane::default());
        hub.feed(newer, b"3\r\nPING\r\n");
        assert_eq!(text(&mut hub, newer), "RS+ A >\r\n");
        hub.feed(conn, b"PUB x 1\r\n0\r\n");
        assert_eq!(
            turn(&mut hub).0,
            [(conn, "MSG x 1 1\r\n0\r\n".to_owned()), (newer, "RMSG A x 1\r\n0\r\n".to_owned())]
        );
        hub.feed(older, b"RMSG A a 1\r\n1\r\nRMSG A a 1\r\n2\r\n");
        assert_eq!(text(&mut hub, conn), "MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\n");
        let watch = hub.watch("A", b"x", b"");
        turn(&mut hub);
        if abrupt {
            hub.close(older);
        } else {
            hub.fail(older, None, "over");
        }
        let (out, events) = turn(&mut hub);
        assert!(
            out.contains(&(conn, "MSG a 1 1\r\n3\r\n".to_owned())) && out.contains(&(newer, "PONG\r\n".to_owned()))
        );
        assert!(!events.iter().any(|event| matches!(event, Event::Interest(number, _) if *number == watch)));
        assert!(hub.interest("A", b"x", b""));
    }
}

#[test]
fn interest_outlasts_the_route_that_told_of_it() {
    for finished in [true, false] {
        let mut hub = small();
        let conn = client(&mut hub, QUIET);
        let older = routed(&mut hub).0;
        hub.feed(older, b"RS+ A x\r\nRS+ A q g 2\r\n");
        let watch = hub.watch("A", b"x", b"");
        let newer = hub.open_route();
        hub.route_ready(newer, "B", Lane::default());
        turn(&mut hub);
        if finished {
            hub.route_finished(older);
        }
        hub.fail(older, None, "over");
        hub.close(older);
        // What the peer wants hasn't come over the newer one.
        hub.feed(conn, b"PUB x 1\r\n1\r\nPUB q 1\r\n2\r\n");
        let (out, events) = turn(&mut hub);
        let lost = events.iter().any(|event| matches!(event, Event::Interest(number, _) if *number == watch));
        let heard: Vec<_> = out.into_iter().filter(|(to, _)| *to == newer).collect();
        if !finished {
            assert_eq!((heard, lost), (vec![], true));
            continue;
        }
        assert_eq!((heard, lost), (vec![(newer, "RMSG A x 1\r\n1\r\nRMSG A q | g 1\r\n2\r\n".to_owned())], false));
        // It is the same interest that comes there, and ends there.
        hub.feed(newer, b"RS+ A x\r\nRS+ A q g 2\r\n");
        assert_eq!(hub.routes()[0].subscriptions, 2);
        hub.feed(newer, b"RS- A x\r\n");
        hub.feed(conn, b"PUB x 1\r\n3\r\n");
        assert_eq!((text(&mut hub, newer), hub.routes()[0].subscriptions), (String::new(), 1));
        hub.close(newer);
        assert!(!hub.interest("A", b"q", b"g"));
    }
    let mut hub = small();
    let only = routed(&mut hub).0;
    hub.feed(only, b"RS+ A x\r\n");
    hub.route_finished(only);
    hub.route_finished(only + 1);
    assert!(hub.interest("A", b"x", b""));
}
