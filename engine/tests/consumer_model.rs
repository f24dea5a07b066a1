//! The pending, ack and redelivery machine against a naive model that keeps sorted maps and looks at everything.

#![allow(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod recorder;

use std::collections::BTreeMap;

use proptest::prelude::*;
use recorder::*;
use streamd_engine::consumer::{AckPolicy, Consumer, How, Options, Target};

#[derive(Clone, Debug)]
enum Op {
    /// New messages, each so many sequences after the one before.
    Deliver(Vec<u64>),
    /// Acks: (which of the sequences so far, body).
    Ack(Vec<(u64, &'static str)>),
    /// Time goes on; what is over expires.
    Expire(i64),
    /// Redeliver at most so many after some time, without a call of `expire`.
    Again(i64, usize),
    Forget(Vec<u64>),
    ForgetBelow(u64),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let body = prop_oneof![
        6 => Just("+ACK"),
        3 => Just("-NAK"),
        2 => Just("-NAK {\"delay\": 40}"),
        1 => Just("-NAK 1us"),
        2 => Just("+WPI"),
        1 => Just("+TERM"),
        1 => Just("+NXT"),
        1 => Just("what"),
    ];
    prop_oneof![
        4 => prop::collection::vec(prop_oneof![3 => Just(1u64), 1 => 1u64..50], 1..12).prop_map(Op::Deliver),
        6 => prop::collection::vec((0u64..64, body), 1..10).prop_map(Op::Ack),
        3 => (0i64..200).prop_map(Op::Expire),
        4 => (0i64..60, 0usize..8).prop_map(|(time, limit)| Op::Again(time, limit)),
        1 => prop::collection::vec(0u64..64, 1..4).prop_map(Op::Forget),
        1 => (0u64..64).prop_map(Op::ForgetBelow),
        1 => Just(Op::Restart),
    ]
}

#[derive(Clone, Debug)]
struct Held {
    consumer_seq: u64,
    at: i64,
    deliveries: u32,
    /// None: in the redelivery queue.
    until: Option<i64>,
}

#[derive(Debug)]
struct Model {
    policy: AckPolicy,
    options: Options,
    next_seq: u64,
    delivered: (u64, u64),
    floor: (u64, u64),
    pending: BTreeMap<u64, Held>,
    queue: Vec<u64>,
    given_up: BTreeMap<u64, (u64, u32)>,
}

impl Model {
    fn wait(&self, deliveries: u32) -> i64 {
        let backoff = &self.options.backoff_ns;
        match backoff.len() {
            0 => self.options.ack_wait_ns,
            steps => backoff[(deliveries as usize - 1).min(steps - 1)],
        }
    }

    fn used_up(&self, deliveries: u32) -> bool {
        self.options.max_deliver > 0 && i64::from(deliveries) >= self.options.max_deliver
    }

    fn deliver(&mut self, seq: u64, now: i64) {
        self.next_seq = seq + 1;
        self.delivered = (self.delivered.0 + 1, seq);
        match self.policy {
            AckPolicy::None => self.floor = self.delivered,
            _ => {
                let held =
                    Held { consumer_seq: self.delivered.0, at: now, deliveries: 1, until: Some(now + self.wait(1)) };
                self.pending.insert(seq, held);
            }
        }
    }

    fn over(&self, now: i64, used_up: bool) -> Vec<u64> {
        let over =
            |held: &Held| held.until.is_some_and(|until| until <= now) && self.used_up(held.deliveries) == used_up;
        self.pending.iter().filter(|(_, held)| over(held)).map(|(seq, _)| *seq).collect()
    }

    fn enqueue(&mut self, seq: u64) {
        if let Some(held) = self.pending.get_mut(&seq) {
            if held.until.take().is_some() {
                self.queue.push(seq);
            }
        }
    }

    fn queue_expired(&mut self, now: i64) {
        for seq in self.over(now, false) {
            self.enqueue(seq);
        }
    }

    fn expire(&mut self, now: i64) -> Vec<(u64, u32)> {
        let gone = self.over(now, true);
        self.queue_expired(now);
        let mut exhausted = Vec::new();
        for seq in gone {
            let held = self.pending.remove(&seq).unwrap();
            self.given_up.insert(seq, (held.consumer_seq, held.deliveries));
            exhausted.push((seq, held.deliveries));
        }
        exhausted
    }

    fn again(&mut self, now: i64, limit: usize) -> Vec<u64> {
        self.queue_expired(now);
        let due: Vec<u64> = self.queue.drain(..limit.min(self.queue.len())).collect();
        for seq in &due {
            self.delivered.0 += 1;
            let deliveries = self.pending[seq].deliveries + 1;
            let until = Some(now + self.wait(deliveries));
            let held = self.pending.get_mut(seq).unwrap();
            *held = Held { at: now, deliveries, until, ..held.clone() };
        }
        due
    }

    fn settle(&mut self, seq: u64) -> bool {
        self.queue.retain(|queued| *queued != seq);
        self.pending.remove(&seq).is_some()
    }

    fn raise_floor(&mut self) {
        let held = self.pending.iter().map(|(seq, held)| (*seq, held.consumer_seq));
        let given_up = self.given_up.iter().map(|(seq, (consumer_seq, _))| (*seq, *consumer_seq));
        let given_up = given_up.filter(|(seq, _)| *seq > self.floor.1);
        self.floor = match held.chain(given_up).min() {
            Some((seq, consumer_seq)) if !self.pending.is_empty() => {
                (self.floor.0.max(consumer_seq - 1), self.floor.1.max(seq - 1))
            }
            _ => self.delivered,
        };
    }

    /// Returns how many were settled.
    fn ack(&mut self, seq: u64, body: &str, now: i64) -> Vec<u64> {
        let mut settled = Vec::new();
        match body {
            "+ACK" | "+NXT" | "+TERM" => {
                let from = if self.policy == AckPolicy::All { 0 } else { seq };
                for one in from..=seq {
                    if self.settle(one) | self.given_up.remove(&one).is_some() {
                        settled.push(one);
                    }
                }
            }
            "+WPI" => {
                let wait = self.pending.get(&seq).map_or(0, |held| self.wait(held.deliveries));
                if let Some(held) = self.pending.get_mut(&seq).filter(|held| held.until.is_some()) {
                    held.at = now;
                    held.until = Some(now + wait);
                }
            }
            "what" => {}
            nak => {
                let delay = match nak {
                    "-NAK" => 0,
                    "-NAK 1us" => 1000,
                    _ => 40,
                };
                let used_up = self.pending.get(&seq).is_some_and(|held| self.used_up(held.deliveries));
                if delay > 0 || used_up {
                    self.queue.retain(|queued| *queued != seq);
                    if let Some(held) = self.pending.get_mut(&seq) {
                        held.until = Some(now + delay);
                    }
                } else {
                    self.enqueue(seq);
                }
            }
        }
        settled
    }

    fn forget(&mut self, sequences: impl Iterator<Item = u64>) -> Vec<u64> {
        let gone: Vec<u64> = sequences
            .filter(|seq| {
                self.given_up.remove(seq);
                self.settle(*seq)
            })
            .collect();
        if !gone.is_empty() {
            self.raise_floor();
        }
        gone
    }

    /// What was refused stays due when it was; its delivery then counts as a wait before that.
    fn restart(&mut self) {
        self.queue.clear();
        for seq in self.pending.keys().copied().collect::<Vec<_>>() {
            let wait = self.wait(self.pending[&seq].deliveries);
            let held = self.pending.get_mut(&seq).unwrap();
            let due = held.until.unwrap_or(held.at);
            held.at = due - wait;
            held.until = Some(due);
        }
    }

    fn redelivered(&self) -> u64 {
        let held = self.pending.values().map(|held| held.deliveries);
        held.chain(self.given_up.values().map(|(_, deliveries)| *deliveries)).filter(|count| *count > 1).count() as u64
    }
}

fn compare(consumer: &mut Consumer, model: &Model) -> Result<(), TestCaseError> {
    let delivered = consumer.delivered();
    prop_assert_eq!((delivered.consumer_seq, delivered.stream_seq), model.delivered);
    prop_assert_eq!(consumer.next_seq(), model.next_seq);
    prop_assert_eq!(floor(consumer), model.floor);
    prop_assert_eq!(consumer.num_ack_pending(), model.pending.len());
    prop_assert_eq!(consumer.num_redelivered(), model.redelivered());
    prop_assert_eq!(consumer.num_queued(), model.queue.len());
    prop_assert_eq!(consumer.deadline_ns(), model.pending.values().filter_map(|held| held.until).min());
    let held: Vec<_> = consumer
        .pending()
        .map(|entry| (entry.stream_seq, entry.consumer_seq, entry.delivered_at_ns, entry.deliveries))
        .collect();
    let wanted: Vec<_> =
        model.pending.iter().map(|(seq, held)| (*seq, held.consumer_seq, held.at, held.deliveries)).collect();
    prop_assert_eq!(held, wanted);
    Ok(())
}

fn run(policy: AckPolicy, options: Options, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut consumer = consumer(policy, options.clone());
    let mut model = Model {
        policy,
        options: options.clone(),
        next_seq: 1,
        delivered: (0, 0),
        floor: (0, 0),
        pending: BTreeMap::new(),
        queue: Vec::new(),
        given_up: BTreeMap::new(),
    };
    let mut hub = Recorder::default();
    let mut now = 1;
    // Acks aim at what was delivered lately, a little beyond included.
    let aim = |model: &Model, back: u64| (model.next_seq + 1).saturating_sub(back);
    for op in ops {
        let before = floor(&consumer);
        match op {
            Op::Deliver(steps) => {
                for step in steps {
                    let seq = model.next_seq + step - 1;
                    let limit = options.max_ack_pending;
                    let free = limit < 0 || (model.pending.len() as i64) < limit;
                    prop_assert_eq!(push(&mut consumer, &mut hub, [seq], now).delivered, usize::from(free));
                    if free {
                        model.deliver(seq, now);
                    }
                }
            }
            Op::Ack(rows) => {
                // A delivery that the consumer knows; which of them it was doesn't matter.
                let rows: Vec<_> =
                    rows.iter().map(|(back, body)| (aim(&model, *back), model.delivered.0.max(1), *body)).collect();
                let stored = consumer.encode();
                let mut outcome = consumer.ack(&acks(&rows), now);
                prop_assert!(outcome.changed || consumer.encode() == stored, "what is stored would be old");
                let known = |seq: u64| (1..=model.delivered.1).contains(&seq) && model.delivered.0 > 0;
                let answers = rows.iter().filter(|(seq, _, body)| known(*seq) && *body != "+NXT").count();
                prop_assert_eq!(outcome.confirmations(), answers);
                let rows: Vec<_> = rows.into_iter().filter(|(seq, ..)| known(*seq)).collect();
                let mut settled: Vec<_> = rows.iter().flat_map(|(seq, _, body)| model.ack(*seq, body, now)).collect();
                if !settled.is_empty() {
                    model.raise_floor();
                }
                settled.sort_unstable();
                outcome.settled.sort_unstable();
                prop_assert_eq!(outcome.settled, settled);
                prop_assert_eq!(outcome.redeliver, !model.queue.is_empty());
            }
            Op::Expire(time) => {
                now += time;
                prop_assert_eq!(consumer.expire(now), model.expire(now));
            }
            Op::Again(time, limit) => {
                now += time;
                let due = consumer.due(now, limit);
                let how = How { redelivery: true, ..how(now) };
                hub.take();
                consumer.deliver(&mut hub, ACCOUNT, &values(due.clone()), Target::Subject("d", ""), &how).unwrap();
                let first = model.delivered.0 + 1;
                prop_assert_eq!(&due, &model.again(now, limit));
                for (at, seen) in hub.take().iter().enumerate() {
                    let (deliveries, seq, consumer_seq, ..) = seen.numbers();
                    prop_assert_eq!((seq, consumer_seq), (due[at], first + at as u64));
                    prop_assert_eq!(deliveries, u64::from(model.pending[&seq].deliveries));
                }
            }
            Op::Forget(backs) => {
                let sequences: Vec<_> = backs.iter().map(|back| aim(&model, *back)).collect();
                let gone: Vec<_> = consumer.forget(&sequences).iter().map(|entry| entry.stream_seq).collect();
                prop_assert_eq!(gone, model.forget(sequences.into_iter()));
            }
            Op::ForgetBelow(back) => {
                let below = aim(&model, back);
                let gone: Vec<_> = consumer.forget_below(below).iter().map(|entry| entry.stream_seq).collect();
                prop_assert_eq!(gone, model.forget(0..below));
                model.next_seq = model.next_seq.max(below);
            }
            Op::Restart => {
                let stored = consumer.encode();
                consumer = recorder::consumer(policy, options.clone());
                consumer.decode(&stored).unwrap();
                prop_assert_eq!(consumer.encode(), stored);
                model.restart();
            }
        }
        let after = floor(&consumer);
        prop_assert!(after.0 >= before.0 && after.1 >= before.1, "the ack floor never goes back");
        compare(&mut consumer, &model)?;
    }
    Ok(())
}

fn any_options() -> impl Strategy<Value = Options> {
    let backoff = prop_oneof![2 => Just(vec![]), 1 => Just(vec![20, 90, 50])];
    (backoff, prop_oneof![Just(-1i64), 1i64..4], prop_oneof![2 => Just(-1i64), 1 => 1i64..30]).prop_map(
        |(backoff_ns, max_deliver, max_ack_pending)| Options {
            ack_wait_ns: 70,
            backoff_ns,
            max_deliver,
            max_ack_pending,
            ..Options::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_model_does(
        policy in prop_oneof![
            4 => Just(AckPolicy::Explicit),
            2 => Just(AckPolicy::All),
            1 => Just(AckPolicy::None),
        ],
        options in any_options(),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        run(policy, options, ops)?;
    }

    #[test]
    fn garbage_is_refused_without_a_panic(mut data in prop::collection::vec(prop_oneof![0u8..6, any::<u8>()], 5..80)) {
        data[4] = 1;
        let checksum = crc32c::crc32c(&data[4..]);
        data[..4].copy_from_slice(&checksum.to_le_bytes());
        let mut consumer = consumer(AckPolicy::Explicit, options());
        if consumer.decode(&data).is_ok() {
            // What is taken for sound must work.
            prop_assert!(floor(&consumer).1 <= consumer.delivered().stream_seq);
            consumer.expire(i64::MAX);
            consumer.forget_below(u64::MAX);
        }
    }
}
