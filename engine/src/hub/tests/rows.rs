//! One client's bytes and the answer, as rows.

use super::*;

#[test]
fn rows_that_stay_open() {
    for (input, wanted) in [
        ("PING\r\n", "PONG\r\n"),
        ("ping with arguments\n", "PONG\r\n"),
        ("+OK\r\nINFO {}\r\nPONG\r\nPING\r\n", "PONG\r\n"),
        ("SUB a 1\r\nPUB a 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n"),
        ("sub\ta\t1 \npub  a \t02\nhi\r\n", "MSG a 1 02\r\nhi\r\n"),
        ("SUB a 1\r\nPUB a re 2\r\nhi\r\n", "MSG a 1 re 2\r\nhi\r\n"),
        ("SUB a 1\r\nPUB a  re  2 \r\nhi\r\n", "MSG a 1 re 2\r\nhi\r\n"),
        ("SUB a 1\r\nPUB a 0\r\n\r\n", "MSG a 1 0\r\n\r\n"),
        ("SUB a 1\r\nSUB > 2\r\nUNSUB 2\r\nPUB a 1\r\nx\r\n", "MSG a 1 1\r\nx\r\n"),
        ("SUB a 1\r\nSUB b 1\r\nPUB b 1\r\nx\r\nPUB a 1\r\ny\r\n", "MSG a 1 1\r\ny\r\n"),
        ("SUB a..b 1\r\nPING\r\n", "-ERR 'Invalid Subject'\r\nPONG\r\n"),
        ("SUB a.>.b 1\r\n", "-ERR 'Invalid Subject'\r\n"),
        ("SUB > 1\r\nPUB a..b 1\r\nx\r\nPING\r\n", "PONG\r\n"),
        ("SUB foo.* 1\r\nPUB foo.* 1\r\nx\r\n", "MSG foo.* 1 1\r\nx\r\n"),
        ("SUB foo.> 1\r\nPUB foo.> 1\r\nx\r\n", "MSG foo.> 1 1\r\nx\r\n"),
        ("SUB a 1\r\nUNSUB 1 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\ny\r\n", "MSG a 1 1\r\nx\r\n"),
        ("SUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1 1\r\nPUB a 1\r\ny\r\n", "MSG a 1 1\r\nx\r\n"),
        ("SUB a 1\r\nUNSUB 1 -3\r\nPUB a 1\r\nx\r\n", ""),
        ("UNSUB 9\r\nPING\r\n", "PONG\r\n"),
        ("SUB a 1\r\nHPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ("SUB a 1\r\nHPUB a re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "HMSG a 1 re 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ("SUB a 1\r\nHPUB a 0 2\r\nhi\r\n", "MSG a 1 2\r\nhi\r\n"),
        ("SUB a 1\r\nHPUB a re 0 2\r\nhi\r\n", "MSG a 1 re 2\r\nhi\r\n"),
        ("PUB a $JS.ACK.x 1\r\nx\r\n", "-ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'\r\n"),
        ("PUB a _R_.x 1\r\nx\r\n", "-ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n"),
        ("PUB $NRG.x 1\r\nx\r\nPING\r\n", "-ERR 'Permissions Violation for Publish to \"$NRG.x\"'\r\nPONG\r\n"),
        ("PUB _GR_.\"\\ 0\r\n\r\n", "-ERR 'Permissions Violation for Publish to \"_GR_.\\\"\\\\\"'\r\n"),
    ] {
        assert_eq!(quiet(QUIET, input), (wanted.to_owned(), None), "{input:?}");
    }
}

#[test]
fn rows_that_close() {
    let unknown = "-ERR 'Unknown Protocol Operation'\r\n";
    let long = format!("SUB {} 1\r\n", "a".repeat(63));
    let flood = format!("PUB {}", "a".repeat(65));
    for (input, wanted) in [
        ("PUB\r\n", unknown),
        ("SUB\r\n", unknown),
        ("UNSUB\r\n", unknown),
        ("HPUB\r\n", unknown),
        ("\r\n", unknown),
        (" PING\r\n", unknown),
        ("GET", unknown),
        ("MSG a 1 1\r\nx\r\n", unknown),
        ("HMSG a 1 1 1\r\n", unknown),
        ("RS+ a b\r\n", unknown),
        ("PINX", unknown),
        ("PUB a 1\r\nxy\r\n", unknown),
        ("PUB a 1\r\nx\n", unknown),
        ("PUB a 4\r\nx\r\nPING\r\n", unknown),
        ("PUB a 1\r\nxy", unknown),
        (&long, "-ERR 'maximum control line exceeded'\r\n"),
        (&flood, "-ERR 'maximum control line exceeded'\r\n"),
        ("PUB a 65\r\n", "-ERR 'Maximum Payload Violation'\r\n"),
        ("HPUB a 1 65\r\n", "-ERR 'Maximum Payload Violation'\r\n"),
        ("PUB a\r\n", ""),
        ("PUB a b c 1\r\n", ""),
        ("PUB a -1\r\n", ""),
        ("PUB a 1234567890\r\n", ""),
        ("PUB \r\n", ""),
        ("SUB a\r\n", ""),
        ("SUB a b c d\r\n", ""),
        ("UNSUB 1 2 3\r\n", ""),
        ("HPUB a 3 2\r\n", ""),
        ("-ERR 'x'\r\nPING\r\n", ""),
    ] {
        let (out, reason) = quiet(QUIET, input);
        assert_eq!(out, wanted, "{input:?}");
        assert!(reason.is_some(), "{input:?}");
    }
    assert_eq!(quiet(Options { headers: false, ..QUIET }, "HPUB a 0 0\r\n").1.unwrap(), "Protocol Violation");
    let exact = format!("SUB {} 1\r\nPING\r\n", "a".repeat(62));
    assert_eq!(quiet(QUIET, &exact), ("PONG\r\n".to_owned(), None));
}

#[test]
fn verbose_and_pedantic_answers_come_in_order() {
    let options = Options { verbose: true, pedantic: true, ..QUIET };
    for (input, wanted) in [
        ("SUB a 1\r\nPUB a 1\r\nx\r\n", "+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n"),
        ("SUB a..b 1\r\n", "-ERR 'Invalid Subject'\r\n"),
        ("SUB a 1\r\nSUB a 1\r\nUNSUB 1\r\nUNSUB 1\r\nPING\r\n", "+OK\r\n+OK\r\n+OK\r\n+OK\r\nPONG\r\n"),
        ("SUB a.> 1\r\nPUB a.* 1\r\nx\r\n", "+OK\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\nMSG a.* 1 1\r\nx\r\n"),
    ] {
        assert_eq!(quiet(options, input), (wanted.to_owned(), None), "{input:?}");
    }
    // Before CONNECT verbose holds and headers don't.
    let mut hub = small();
    let conn = hub.open("A", b"INFO {} \r\n", false);
    hub.feed(conn, b"SUB a 1\r\nPING\r\n");
    assert_eq!(output(&mut hub), "INFO {} \r\n+OK\r\nPONG\r\n");
}
