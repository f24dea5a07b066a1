//! Consumers, to Python: `ConsumerState`, `Delivery` and `AckOutcome`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyString};

use super::batch::Batch;
use super::engine::{bytes_of, str_of, Engine};
use super::log::corrupt;
use crate::codec::ack::Reference;
use crate::consumer::{AckPolicy, Ask, Consumer, Entry, How, Options, Outcome, Target};

/// (consumer_seq, stream_seq, deliveries)
type Triple = (u64, u64, u32);

fn triple(reference: Reference) -> Triple {
    (reference.consumer_seq, reference.stream_seq, reference.deliveries)
}

fn triples(entries: &[Entry]) -> Vec<Triple> {
    entries.iter().map(|entry| (entry.consumer_seq, entry.stream_seq, entry.deliveries)).collect()
}

#[pyclass(module = "streamd._engine", frozen, get_all)]
pub(super) struct Delivery {
    consumed: usize,
    delivered: usize,
    blocked: u8,
    conn: u64,
    bytes: u64,
    last_seq: u64,
}

impl From<crate::consumer::Delivery> for Delivery {
    fn from(done: crate::consumer::Delivery) -> Delivery {
        Delivery {
            consumed: done.consumed,
            delivered: done.delivered,
            blocked: done.blocked as u8,
            conn: done.conn,
            bytes: done.bytes,
            last_seq: done.last_seq,
        }
    }
}

#[pyclass(module = "streamd._engine")]
struct AckOutcome {
    inner: Outcome,
}

#[pymethods]
impl AckOutcome {
    #[getter]
    fn settled(&self) -> usize {
        self.inner.settled.len()
    }

    #[getter]
    fn settled_seqs(&self) -> &[u64] {
        &self.inner.settled
    }

    #[getter]
    fn late(&self) -> &[u64] {
        &self.inner.late
    }

    #[getter]
    fn changed(&self) -> bool {
        self.inner.changed
    }

    #[getter]
    fn redeliver(&self) -> bool {
        self.inner.redeliver
    }

    #[getter]
    fn naks(&self) -> Vec<Triple> {
        self.inner.naks.iter().map(|nak| triple(nak.reference)).collect()
    }

    #[getter]
    fn terms(&self) -> Vec<(u64, u64, u32, String)> {
        let row = |reference: Reference, reason: &[u8]| {
            let (consumer_seq, stream_seq, deliveries) = triple(reference);
            // A reason goes into an advisory, which is JSON: what is no UTF-8 can't stay as it is.
            (consumer_seq, stream_seq, deliveries, String::from_utf8_lossy(reason).into_owned())
        };
        self.inner.terms.iter().map(|term| row(term.reference, &term.reason)).collect()
    }

    #[getter]
    fn nexts<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyBytes>)>> {
        self.inner.nexts.iter().map(|(reply, body)| Ok((str_of(py, reply)?, PyBytes::new(py, body)))).collect()
    }

    #[getter]
    fn acked(&self) -> Vec<(u64, u64, u32, i64)> {
        let row =
            |reference: Reference, at_ns| (reference.consumer_seq, reference.stream_seq, reference.deliveries, at_ns);
        self.inner.acked.iter().map(|sample| row(sample.reference, sample.delivered_at_ns)).collect()
    }

    fn confirmations(&self) -> usize {
        self.inner.confirmations()
    }

    fn confirm(&mut self, engine: &mut Engine, account: &str) {
        self.inner.confirm(&mut engine.hub, account);
    }
}

#[pyclass(module = "streamd._engine")]
struct ConsumerState {
    inner: Consumer,
}

#[pymethods]
impl ConsumerState {
    #[new]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    #[pyo3(signature = (
        stream, name, *, ack_policy, ack_wait_ns=30_000_000_000, backoff_ns=Vec::new(), max_deliver=-1,
        max_ack_pending=-1, max_waiting=512, filters=Vec::new(), headers_only=false, sampling=false,
        flow_control=false, next_seq=1
    ))]
    fn new(
        stream: &str,
        name: &str,
        ack_policy: &str,
        ack_wait_ns: i64,
        backoff_ns: Vec<i64>,
        max_deliver: i64,
        max_ack_pending: i64,
        max_waiting: i64,
        filters: Vec<String>,
        headers_only: bool,
        sampling: bool,
        flow_control: bool,
        next_seq: u64,
    ) -> PyResult<Self> {
        let policy = match ack_policy {
            "none" => AckPolicy::None,
            "all" => AckPolicy::All,
            "explicit" => AckPolicy::Explicit,
            _ => return Err(PyValueError::new_err(format!("unknown ack policy {ack_policy:?}"))),
        };
        let options = Options {
            ack_wait_ns,
            backoff_ns,
            max_deliver,
            max_ack_pending,
            max_waiting,
            filters,
            headers_only,
            sampling,
        };
        Ok(Self { inner: Consumer::new(stream, name, policy, options, flow_control, next_seq) })
    }

    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    #[pyo3(signature = (
        *, ack_wait_ns=None, backoff_ns=None, max_deliver=None, max_ack_pending=None, max_waiting=None, filters=None,
        headers_only=None, sampling=None
    ))]
    fn configure(
        &mut self,
        ack_wait_ns: Option<i64>,
        backoff_ns: Option<Vec<i64>>,
        max_deliver: Option<i64>,
        max_ack_pending: Option<i64>,
        max_waiting: Option<i64>,
        filters: Option<Vec<String>>,
        headers_only: Option<bool>,
        sampling: Option<bool>,
    ) {
        let before = self.inner.options().clone();
        self.inner.configure(Options {
            ack_wait_ns: ack_wait_ns.unwrap_or(before.ack_wait_ns),
            backoff_ns: backoff_ns.unwrap_or(before.backoff_ns),
            max_deliver: max_deliver.unwrap_or(before.max_deliver),
            max_ack_pending: max_ack_pending.unwrap_or(before.max_ack_pending),
            max_waiting: max_waiting.unwrap_or(before.max_waiting),
            filters: filters.unwrap_or(before.filters),
            headers_only: headers_only.unwrap_or(before.headers_only),
            sampling: sampling.unwrap_or(before.sampling),
        });
    }

    #[getter]
    fn next_seq(&self) -> u64 {
        self.inner.next_seq()
    }

    #[setter]
    fn set_next_seq(&mut self, sequence: u64) {
        self.inner.set_next_seq(sequence);
    }

    #[getter]
    fn delivered_consumer_seq(&self) -> u64 {
        self.inner.delivered().consumer_seq
    }

    #[getter]
    fn delivered_stream_seq(&self) -> u64 {
        self.inner.delivered().stream_seq
    }

    #[getter]
    fn delivered_at_ns(&self) -> i64 {
        self.inner.delivered().at_ns
    }

    #[getter]
    fn ack_floor_consumer_seq(&self) -> u64 {
        self.inner.ack_floor().consumer_seq
    }

    #[getter]
    fn ack_floor_stream_seq(&self) -> u64 {
        self.inner.ack_floor().stream_seq
    }

    #[getter]
    fn acked_at_ns(&self) -> i64 {
        self.inner.ack_floor().at_ns
    }

    #[getter]
    fn num_pending(&self) -> u64 {
        self.inner.num_pending()
    }

    #[setter]
    fn set_num_pending(&mut self, count: u64) {
        self.inner.set_num_pending(count);
    }

    #[getter]
    fn num_ack_pending(&self) -> usize {
        self.inner.num_ack_pending()
    }

    #[getter]
    fn num_redelivered(&self) -> u64 {
        self.inner.num_redelivered()
    }

    #[getter]
    fn num_waiting(&self) -> usize {
        self.inner.num_waiting()
    }

    #[getter]
    fn num_queued(&self) -> usize {
        self.inner.num_queued()
    }

    #[getter]
    fn demand(&self) -> u64 {
        self.inner.demand()
    }

    #[getter]
    fn deadline_ns(&mut self) -> i64 {
        self.inner.deadline_ns().unwrap_or(0)
    }

    fn blocked(&self) -> u8 {
        if self.inner.at_limit() {
            2
        } else {
            0
        }
    }

    fn reset(&mut self, sequence: u64) {
        self.inner.reset(sequence);
    }

    fn pending_list(&self, limit: usize) -> Vec<(u64, u64, i64, u32)> {
        let row = |entry: &Entry| (entry.stream_seq, entry.consumer_seq, entry.delivered_at_ns, entry.deliveries);
        self.inner.pending().take(limit).map(row).collect()
    }

    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    #[pyo3(signature = (reply, *, batch, max_bytes=0, expires_at_ns=0, no_wait=false, heartbeat_ns=0, now_ns=0))]
    fn request(
        &mut self,
        reply: &Bound<'_, PyString>,
        batch: u64,
        max_bytes: u64,
        expires_at_ns: i64,
        no_wait: bool,
        heartbeat_ns: i64,
        now_ns: i64,
    ) -> PyResult<bool> {
        let ask = Ask { batch, max_bytes, expires_at_ns, no_wait, heartbeat_ns };
        Ok(self.inner.request(&bytes_of(reply)?, ask, now_ns))
    }

    fn waiting<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.inner.waiting().map(|inbox| str_of(py, inbox)).collect()
    }

    #[pyo3(signature = (engine, account, status, *, counts=false))]
    fn requests_end(&mut self, engine: &mut Engine, account: &str, status: &str, counts: bool) -> usize {
        self.inner.requests_end(&mut engine.hub, account, status, counts)
    }

    fn requests_tick(&mut self, engine: &mut Engine, account: &str, now_ns: i64) -> i64 {
        self.inner.requests_tick(&mut engine.hub, account, now_ns).unwrap_or(0)
    }

    fn requests_drained(&mut self, engine: &mut Engine, account: &str) {
        self.inner.requests_drained(&mut engine.hub, account);
    }

    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    #[pyo3(signature = (
        engine, account, values, now_ns, *, deliver_subject="", deliver_group="", bytes_max=1 << 20, upto_ts_ns=0,
        redelivery=false
    ))]
    fn deliver(
        &mut self,
        engine: &mut Engine,
        account: &str,
        values: Vec<PyBackedBytes>,
        now_ns: i64,
        deliver_subject: &str,
        deliver_group: &str,
        bytes_max: u64,
        upto_ts_ns: i64,
        redelivery: bool,
    ) -> PyResult<Delivery> {
        let target = match deliver_subject {
            "" => Target::Requests,
            to => Target::Subject(to, deliver_group),
        };
        let how = How { now_ns, bytes_max, upto_ts_ns, redelivery };
        let done = self.inner.deliver(&mut engine.hub, account, &values, target, &how).map_err(corrupt)?;
        Ok(done.into())
    }

    fn due(&mut self, now_ns: i64, limit: usize) -> Vec<u64> {
        self.inner.due(now_ns, limit)
    }

    fn expire(&mut self, now_ns: i64) -> (i64, Vec<(u64, u32)>) {
        let exhausted = self.inner.expire(now_ns);
        (self.inner.deadline_ns().unwrap_or(0), exhausted)
    }

    fn forget(&mut self, sequences: Vec<u64>) -> Vec<Triple> {
        triples(&self.inner.forget(&sequences))
    }

    fn forget_below(&mut self, sequence: u64) -> Vec<Triple> {
        triples(&self.inner.forget_below(sequence))
    }

    fn purged(&mut self, sequence: u64) {
        self.inner.purged(sequence);
    }

    fn ack(&mut self, batch: &Batch, now_ns: i64) -> AckOutcome {
        AckOutcome { inner: self.inner.ack(&batch.inner, now_ns) }
    }

    fn flow_answered(&mut self, subject: &Bound<'_, PyString>) -> PyResult<bool> {
        Ok(self.inner.flow_answered(&bytes_of(subject)?))
    }

    fn flow_reset(&mut self) {
        self.inner.flow_reset();
    }

    fn heartbeat(&self, engine: &mut Engine, deliver_subject: &str, account: &str) {
        self.inner.heartbeat(&mut engine.hub, account, deliver_subject.as_bytes());
    }

    fn encode<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.encode())
    }

    fn decode(&mut self, data: &[u8]) -> PyResult<()> {
        self.inner.decode(data).map_err(corrupt)
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Delivery>()?;
    module.add_class::<AckOutcome>()?;
    module.add_class::<ConsumerState>()
}
