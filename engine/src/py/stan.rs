//! NATS Streaming, to Python: `StanGroup`, `StanPublishers` and the names of channels.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyString};

use super::batch::Batch;
use super::consumer::Delivery;
use super::engine::{bytes_of, str_of, Engine};
use super::log::corrupt;
use crate::codec::stan as codec;
use crate::stan::{Group, Member, Publishers, Refused, Sorted};

#[pyclass(module = "streamd._engine")]
struct StanGroup {
    inner: Group,
}

#[pymethods]
impl StanGroup {
    #[new]
    #[pyo3(signature = (channel, *, queue, patient=false, next_seq=1))]
    fn new(channel: &Bound<'_, PyString>, queue: bool, patient: bool, next_seq: u64) -> PyResult<StanGroup> {
        Ok(StanGroup { inner: Group::new(&bytes_of(channel)?, queue, patient, next_seq) })
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
    fn num_pending(&self) -> usize {
        self.inner.num_pending()
    }

    #[getter]
    fn num_queued(&self) -> usize {
        self.inner.num_queued()
    }

    #[getter]
    fn deadline_ns(&mut self) -> i64 {
        self.inner.deadline_ns().unwrap_or(0)
    }

    #[getter]
    fn room(&self) -> u64 {
        self.inner.room()
    }

    #[pyo3(signature = (number, inbox, *, ack_wait_ns, max_in_flight))]
    fn join(&mut self, number: u32, inbox: &Bound<'_, PyString>, ack_wait_ns: i64, max_in_flight: u64) -> PyResult<()> {
        let inbox = bytes_of(inbox)?.into_owned();
        self.inner.join(Member {
            number,
            inbox,
            ack_wait_ns,
            max_in_flight,
            pending: 0,
            failing: false,
            absent: false,
        });
        Ok(())
    }

    fn leave(&mut self, number: u32, now_ns: i64) {
        self.inner.leave(number, now_ns);
    }

    fn set_failing(&mut self, number: u32, failing: bool) {
        self.inner.set_failing(number, failing);
    }

    fn absent(&self) -> Vec<u32> {
        self.inner.absent().collect()
    }

    fn set_present(&mut self, number: u32) {
        self.inner.set_present(number);
    }

    fn members(&self) -> Vec<(u32, u64, bool)> {
        let row = |member: &Member| (member.number, member.pending, member.stalled());
        self.inner.members().iter().map(row).collect()
    }

    fn pending_list(&self, limit: usize) -> Vec<(u64, i64, u32, u32)> {
        let entries = self.inner.pending().take(limit);
        entries.map(|entry| (entry.stream_seq, entry.delivered_at_ns, entry.member, entry.deliveries)).collect()
    }

    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    #[pyo3(signature = (engine, account, values, now_ns, *, bytes_max=1 << 20, redelivery=false))]
    fn deliver(
        &mut self,
        engine: &mut Engine,
        account: &str,
        values: Vec<PyBackedBytes>,
        now_ns: i64,
        bytes_max: u64,
        redelivery: bool,
    ) -> PyResult<Delivery> {
        let done = self.inner.deliver(&mut engine.hub, account, &values, now_ns, bytes_max, redelivery);
        done.map(Delivery::from).map_err(corrupt)
    }

    fn due(&mut self, now_ns: i64, limit: usize) -> Vec<u64> {
        self.inner.due(now_ns, limit)
    }

    fn ack(&mut self, batch: &Batch) -> (u64, u64) {
        let acks = self.inner.ack(&batch.inner);
        (acks.settled, acks.foreign)
    }

    fn forget(&mut self, sequences: Vec<u64>) -> usize {
        self.inner.forget(&sequences)
    }

    fn forget_below(&mut self, sequence: u64) -> usize {
        self.inner.forget_below(sequence)
    }

    fn encode<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.encode())
    }

    fn decode(&mut self, data: &[u8]) -> PyResult<()> {
        self.inner.decode(data).map_err(corrupt)
    }

    fn restore(&mut self, next_seq: u64, pending: Vec<(u64, i64, u32)>) {
        self.inner.restore(next_seq, &pending);
    }
}

/// Reason, client id and channel of a refused publish.
type Refusal<'py> = (&'static str, Bound<'py, PyAny>, Bound<'py, PyAny>);

#[pyclass(module = "streamd._engine")]
struct StanSorted {
    inner: Sorted,
}

#[pymethods]
impl StanSorted {
    #[new]
    fn new() -> StanSorted {
        StanSorted { inner: Sorted::default() }
    }

    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyAny>, Batch)>> {
        let taken = std::mem::take(&mut self.inner).groups;
        taken.into_iter().map(|(channel, inner)| Ok((str_of(py, &channel)?, Batch { inner }))).collect()
    }

    #[getter]
    fn messages(&self) -> u64 {
        self.inner.messages
    }

    #[getter]
    fn bytes(&self) -> u64 {
        self.inner.bytes
    }

    #[getter]
    fn refusals(&self) -> u64 {
        self.inner.refusals
    }

    #[getter]
    fn refused<'py>(&self, py: Python<'py>) -> PyResult<Vec<Refusal<'py>>> {
        let told = |one: &Refused| Ok((one.reason, str_of(py, &one.client_id)?, str_of(py, &one.channel)?));
        self.inner.refused.iter().map(told).collect()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

#[pyclass(module = "streamd._engine")]
struct StanPublishers {
    inner: Publishers,
}

#[pymethods]
impl StanPublishers {
    #[new]
    fn new(prefix: &str, native: Vec<(String, bool)>) -> StanPublishers {
        let native = native.into_iter().map(|(pattern, own)| (pattern.into_bytes(), own)).collect();
        StanPublishers { inner: Publishers::new(prefix.as_bytes(), native) }
    }

    fn add(&mut self, client_id: &str, conn_id: &[u8]) {
        self.inner.add(client_id.as_bytes(), conn_id);
    }

    fn remove(&mut self, client_id: &str, conn_id: &[u8]) {
        self.inner.remove(client_id.as_bytes(), conn_id);
    }

    fn subject<'py>(&self, py: Python<'py>, channel: &Bound<'_, PyString>) -> PyResult<Bound<'py, PyAny>> {
        str_of(py, &self.inner.subject(&bytes_of(channel)?))
    }

    fn sort(&self, batch: &Batch, sorted: &mut StanSorted, engine: &mut Engine, account: &str) {
        self.inner.sort(&batch.inner, &mut sorted.inner, &mut engine.hub, account);
    }
}

#[pyfunction]
fn stan_channel_valid(name: &Bound<'_, PyString>) -> PyResult<bool> {
    Ok(codec::channel_valid(&bytes_of(name)?))
}

#[pyfunction]
fn stan_reply_headers<'py>(py: Python<'py>, reply: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &codec::reply_headers(reply))
}

#[pyfunction]
fn stan_reply<'py>(py: Python<'py>, headers: &[u8]) -> Bound<'py, PyBytes> {
    let mut reply = Vec::new();
    codec::unescape(codec::reply(headers).unwrap_or_default(), &mut reply);
    PyBytes::new(py, &reply)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<StanGroup>()?;
    module.add_class::<StanPublishers>()?;
    module.add_class::<StanSorted>()?;
    module.add_function(wrap_pyfunction!(stan_channel_valid, module)?)?;
    module.add_function(wrap_pyfunction!(stan_reply, module)?)?;
    module.add_function(wrap_pyfunction!(stan_reply_headers, module)?)
}
