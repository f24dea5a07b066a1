//! Native throughput of the engine: parse, match, fan out and frame, without sockets.
//!
//! `cargo run --release --example throughput`
#![allow(clippy::print_stdout, reason = "this program prints")]

use std::time::{Duration, Instant};

use streamd_engine::hub::{Hub, Lane, Limits, Options};
use streamd_engine::publish::{Outgoing, Publisher};

const READ: usize = 256 << 10;
const SPAN: Duration = Duration::from_millis(700);
const CONNECT: &[u8] = b"CONNECT {}\r\n";

fn client(hub: &mut Hub, input: &[u8]) -> u64 {
    let conn = hub.open("$G", b"", false);
    hub.feed(conn, CONNECT);
    let options = Options { verbose: false, pedantic: false, echo: true, headers: true, no_responders: true };
    hub.connected(conn, "$G", options, b"");
    hub.feed(conn, input);
    conn
}

fn report(name: &str, messages: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{name:<44} {:>8.2} M msg/s", messages as f64 / seconds / 1e6);
}

/// Reads of one publisher to a number of subscribers; messages are cut at read borders as sockets do it.
fn publish(name: &str, size: usize, subscribers: usize, lines: &[String]) {
    let mut hub = Hub::new(Limits::default());
    for _ in 0..subscribers {
        client(&mut hub, b"SUB bench.> 1\r\n");
    }
    let publisher = client(&mut hub, b"");
    let payload = vec![b'x'; size];
    let mut stream = Vec::new();
    let mut count = 0;
    while stream.len() < 8 * READ {
        for line in lines {
            stream.extend_from_slice(line.as_bytes());
            stream.extend_from_slice(&payload);
            stream.extend_from_slice(b"\r\n");
            count += 1;
        }
    }
    let (mut messages, mut written) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < SPAN {
        for read in stream.chunks(READ) {
            hub.feed(publisher, read);
            hub.turn(|_, bytes| written += std::hint::black_box(bytes).len());
            hub.events();
        }
        messages += count * subscribers.max(1) as u64;
    }
    report(name, messages, start);
    assert!(subscribers == 0 || written > 0);
}

/// Acks to one-shot inboxes under one wildcard subscription.
fn acks(name: &str, clients: usize) {
    let mut hub = Hub::new(Limits::default());
    for number in 0..clients {
        client(&mut hub, format!("SUB _INBOX.client{number}.* 1\r\n").as_bytes());
    }
    let inboxes: Vec<String> =
        (0..100_000).map(|number| format!("_INBOX.client{}.{number:x}", number % clients)).collect();
    let mut messages = 0;
    let start = Instant::now();
    while start.elapsed() < SPAN {
        for batch in inboxes.chunks(4096) {
            for inbox in batch {
                let to = inbox.as_bytes();
                let payload: [&[u8]; 3] = [br#"{"stream":"ORDERS","seq":"#, b"123456", b"}"];
                hub.publish("$G", Outgoing { to, subject: to, reply: b"", headers: &[], payload: &payload });
            }
            hub.turn(|_, bytes| {
                std::hint::black_box(bytes);
            });
            messages += batch.len() as u64;
        }
    }
    report(name, messages, start);
}

/// Requests with one-shot replies into a tap.
fn tapped(name: &str, size: usize) {
    let mut hub = Hub::new(Limits::default());
    let tap = hub.tap("$G", false);
    hub.tap_add(tap, b"bench.>", b"");
    let publisher = client(&mut hub, b"");
    let mut stream = Vec::new();
    for number in 0..10_000 {
        stream.extend_from_slice(format!("PUB bench.x _INBOX.abcdefgh.{number} {size}\r\n").as_bytes());
        stream.extend_from_slice(&vec![b'x'; size]);
        stream.extend_from_slice(b"\r\n");
    }
    let mut messages = 0;
    let start = Instant::now();
    while start.elapsed() < SPAN {
        for read in stream.chunks(READ) {
            hub.feed(publisher, read);
            hub.events();
            std::hint::black_box(hub.take(tap, 0));
        }
        messages += 10_000;
    }
    report(name, messages, start);
}

/// What a client publishes goes to another server, or what that one sends to a client.
fn routed(name: &str, size: usize, out: bool) {
    let mut hub = Hub::new(Limits::default());
    let conn = client(&mut hub, if out { b"" } else { b"SUB bench.> 1\r\n" });
    let route = hub.open_route();
    hub.route_ready(route, "B", Lane::default());
    hub.feed(route, if out { b"RS+ $G bench.>\r\n" } else { b"" });
    let (from, line) = if out { (conn, "PUB bench.x") } else { (route, "RMSG $G bench.x") };
    let mut stream = Vec::new();
    let mut count = 0;
    while stream.len() < 8 * READ {
        stream.extend_from_slice(format!("{line} {size}\r\n").as_bytes());
        stream.extend_from_slice(&vec![b'x'; size]);
        stream.extend_from_slice(b"\r\n");
        count += 1;
    }
    let (mut messages, mut written) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < SPAN {
        for read in stream.chunks(READ) {
            hub.feed(from, read);
            hub.turn(|_, bytes| written += std::hint::black_box(bytes).len());
        }
        messages += count;
    }
    report(name, messages, start);
    assert!(written > size);
}

fn subscriptions(name: &str, count: usize) {
    let mut hub = Hub::new(Limits::default());
    let lines: Vec<String> = (0..count).map(|number| format!("SUB _INBOX.client{number}.* {number}\r\n")).collect();
    let conn = client(&mut hub, b"");
    let start = Instant::now();
    lines.iter().for_each(|line| hub.feed(conn, line.as_bytes()));
    report(name, count as u64, start);
    let start = Instant::now();
    hub.close(conn);
    report("  and closed", count as u64, start);
}

fn main() {
    let same = |size: usize| vec![format!("PUB bench.x {size}\r\n")];
    for size in [16, 128, 1024] {
        publish(&format!("1 -> 1, {size} B"), size, 1, &same(size));
    }
    publish("1 -> 4, 128 B (delivered)", 128, 4, &same(128));
    publish("publish only, 16 B", 16, 0, &same(16));
    publish("publish only, 128 B", 128, 0, &same(128));
    let many: Vec<String> = (0..1000).map(|number| format!("PUB bench.device.{number} 128\r\n")).collect();
    publish("1 -> 1, 128 B, 1000 subjects in turn", 128, 1, &many);
    let once: Vec<String> = (0..20_000).map(|number| format!("PUB bench.device.{number} 128\r\n")).collect();
    publish("1 -> 1, 128 B, 20000 subjects in turn", 128, 1, &once);
    acks("acks to one-shot inboxes, 1 client", 1);
    acks("acks to one-shot inboxes, 1000 clients", 1000);
    tapped("into a tap with one-shot replies, 128 B", 128);
    routed("to another server, 128 B", 128, true);
    routed("from another server, 128 B", 128, false);
    subscriptions("wildcard SUBs", 1_000_000);
}
