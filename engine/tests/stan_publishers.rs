//! NATS Streaming's publishes, taken apart by channel, against a naive model.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod wire;

use proptest::prelude::*;
use streamd_engine::batch::{Batch, Message};
use streamd_engine::stan::Publishers;
use wire::{bytes_field, fields, Wire, ACCOUNT};

#[derive(Clone, Debug)]
struct Publish {
    client_id: &'static str,
    conn_id: &'static str,
    guid: String,
    channel: &'static [u8],
    reply: &'static str,
    data: Vec<u8>,
    /// What of it arrives: a part is broken.
    cut: bool,
    /// Where the ack goes.
    to: &'static str,
}

const CLIENTS: [&str; 3] = ["a", "b", "c"];
const CONNS: [&str; 4] = ["", "one", "two", "three"];
const GOOD: [&[u8]; 6] = [b"foo", b"foo.bar", b"Foo", b"with space", "ünï".as_bytes(), b"\xff"];
const BAD: [&[u8]; 5] = [b"", b"foo.", b"f/o", b"foo.*", b">"];
/// What servers of a cluster tell each other: a number, then bytes.
const CONTROL: &[u8] = &[1 << 3, 3, 2 << 3 | 2, 1, b'x'];

fn publish() -> impl Strategy<Value = Publish> {
    let channel = prop_oneof![5 => prop::sample::select(&GOOD[..]), 2 => prop::sample::select(&BAD[..])];
    let who = (prop::sample::select(vec!["a", "b", "c", "", "nobody"]), prop::sample::select(&CONNS[..]));
    let guid = prop_oneof![8 => "[a-z]{1,5}", 1 => Just(String::new()), 1 => "g{200,300}"];
    let data = prop::collection::vec(any::<u8>(), 0..6);
    let rest = (prop::sample::select(vec!["", "r", "r.x"]), prop::sample::select(vec!["", "ack.1", "ack.2"]));
    (who, guid, channel, data, rest, prop::bool::weighted(0.1)).prop_map(
        |((client_id, conn_id), guid, channel, data, (reply, to), cut)| Publish {
            client_id,
            conn_id,
            guid,
            channel,
            reply,
            data,
            cut,
            to,
        },
    )
}

impl Publish {
    fn encoded(&self) -> Vec<u8> {
        let parts = [
            self.client_id.as_bytes(),
            self.guid.as_bytes(),
            self.channel,
            self.reply.as_bytes(),
            &self.data,
            self.conn_id.as_bytes(),
        ];
        let mut out = Vec::new();
        for (number, part) in (1..).zip(parts) {
            out.extend_from_slice(&bytes_field(number, part));
        }
        if self.cut {
            out.pop();
            // The last part is empty or cut; in neither case is this a message.
            out.extend_from_slice(&[0x0a, 0x7f]);
        }
        out
    }
}

/// Who is connected: client ids with what names their connections.
fn known(connected: &[(&str, &str)], publish: &Publish) -> bool {
    match publish.conn_id {
        "" => connected.iter().any(|(client_id, _)| *client_id == publish.client_id),
        conn_id => connected.iter().any(|(_, other)| *other == conn_id),
    }
}

/// (subject, reply, headers, payload, conn, guid)
type Seen = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, u64, Vec<u8>);

fn seen(batch: &Batch) -> Vec<Seen> {
    let own = |bytes: &[u8]| bytes.to_vec();
    batch
        .iter()
        .map(|one| (own(one.subject), own(one.reply), own(one.headers), own(one.payload), one.conn, own(one.guid)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn each_publish_is_in_one_group_or_refused(
        changes in prop::collection::vec((0usize..3, 0usize..4, any::<bool>()), 0..8),
        publishes in prop::collection::vec((publish(), prop::bool::weighted(0.05)), 0..20),
    ) {
        let native = vec![(b"foo.*".to_vec(), true), (b">".to_vec(), false)];
        let mut publishers = Publishers::new(b"$STAN.c.", native);
        let mut connected: Vec<(&str, &str)> = Vec::new();
        for (client, conn, stays) in changes {
            let (client_id, conn_id) = (CLIENTS[client], CONNS[conn]);
            // Whoever had the id or the name of the connection has gone before.
            let clash = |(id, name): &(&str, &str)| *id == client_id || (*name == conn_id && !name.is_empty());
            while let Some(at) = connected.iter().position(clash) {
                let (id, name) = connected.remove(at);
                publishers.remove(id.as_bytes(), name.as_bytes());
            }
            if stays {
                publishers.add(client_id.as_bytes(), conn_id.as_bytes());
                connected.push((client_id, conn_id));
            }
        }

        let mut batch = Batch::default();
        let mut wire = Wire::default();
        let (mut groups, mut answers) = (Vec::<(Vec<u8>, Vec<Seen>)>::new(), Vec::new());
        let (mut messages, mut bytes, mut refused) = (0, 0, Vec::new());
        for (conn, (publish, control)) in (1u64..).zip(publishes) {
            let payload = if control { CONTROL.to_vec() } else { publish.encoded() };
            let reply = publish.to.as_bytes();
            batch.push(Message { subject: b"_STAN.pub.c.x", reply, payload: &payload, conn, ..Message::default() });
            let guid = publish.guid.clone().into_bytes();
            let good = !publish.cut && !guid.is_empty() && GOOD.contains(&publish.channel);
            if control {
                // It is nobody's business here.
                continue;
            }
            if !publish.cut {
                messages += 1;
                bytes += payload.len() as u64;
            }
            if !good || !known(&connected, &publish) {
                refused.push((publish.client_id.as_bytes().to_vec(), publish.channel.to_vec()));
                if !publish.to.is_empty() {
                    let mut error = vec![(2, b"stan: invalid publish request".to_vec(), 0)];
                    if !guid.is_empty() {
                        error.insert(0, (1, guid, 0));
                    }
                    answers.push((publish.to.to_owned(), error));
                }
                continue;
            }
            let subject: &[u8] = match publish.channel {
                b"foo.bar" => b"foo.bar",
                b"foo" => b"$STAN.c.foo",
                b"Foo" => b"$STAN.c.Foo",
                b"with space" => b"$STAN.c.with=20space",
                b"\xff" => b"$STAN.c.=FF",
                _ => "$STAN.c.ünï".as_bytes(),
            };
            let headers = match publish.reply {
                "" => String::new(),
                reply => format!("NATS/1.0\r\nNats-Streaming-Reply: {reply}\r\n\r\n"),
            };
            let message =
                (subject.to_vec(), reply.to_vec(), headers.into_bytes(), publish.data.clone(), conn, guid);
            match groups.iter_mut().find(|(channel, _)| channel == publish.channel) {
                Some((_, messages)) => messages.push(message),
                None => groups.push((publish.channel.to_vec(), vec![message])),
            }
        }

        let sorted = publishers.sort(&batch, &mut wire, ACCOUNT);
        let found: Vec<_> = sorted.groups.iter().map(|(channel, batch)| (channel.clone(), seen(batch))).collect();
        prop_assert_eq!(found, groups);
        prop_assert_eq!((sorted.messages, sorted.bytes), (messages, bytes));
        prop_assert_eq!(sorted.refusals, refused.len() as u64);
        let told: Vec<_> = sorted.refused.iter().map(|one| (one.client_id.clone(), one.channel.clone())).collect();
        refused.truncate(16);
        prop_assert_eq!(told, refused);
        let sent: Vec<_> = wire.seen.iter().map(|(to, bytes)| (to.clone(), fields(bytes))).collect();
        prop_assert_eq!(sent, answers);
    }
}

#[test]
fn a_publish_into_no_channel_is_refused() {
    let mut publishers = Publishers::new(b"$STAN.c.", Vec::new());
    publishers.add(b"a", b"one");
    let mut batch = Batch::default();
    let payload = [bytes_field(1, b"a"), bytes_field(2, b"guid"), bytes_field(6, b"one")].concat();
    batch.push(Message { subject: b"_STAN.pub.c.x", reply: b"ack", payload: &payload, ..Message::default() });
    let mut wire = Wire::default();
    let sorted = publishers.sort(&batch, &mut wire, ACCOUNT);
    assert!(sorted.groups.is_empty());
    assert_eq!((sorted.refusals, sorted.refused[0].reason), (1, "no channel can have this name"));
    assert_eq!(fields(&wire.seen[0].1)[0], (1, b"guid".to_vec(), 0));
}
