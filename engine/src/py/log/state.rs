//! The state of a stream, to Python.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyType};

use super::admission::Admission;
use super::convert::{borrowed, subject_bytes, subject_from_py, subject_to_py, Values};
use super::corrupt;
use crate::log::{self, Identity, Limits};
use crate::py::batch::Batch;

/// Deterministic machine of one stream.
#[pyclass(module = "streamd._engine")]
pub(super) struct StreamState {
    inner: log::StreamState,
}

/// Take options by name into limits, and into what a stream is made with if that is given.
fn options(kwargs: Option<&Bound<'_, PyDict>>, limits: &mut Limits, mut made: Option<&mut Identity>) -> PyResult<()> {
    for (name, value) in kwargs.into_iter().flatten() {
        let name: String = name.extract()?;
        match (name.as_str(), made.as_deref_mut()) {
            ("max_msgs", _) => limits.max_msgs = value.extract()?,
            ("max_bytes", _) => limits.max_bytes = value.extract()?,
            ("max_msgs_per_subject", _) => limits.max_msgs_per_subject = value.extract()?,
            ("max_msg_size", _) => limits.max_msg_size = value.extract()?,
            ("max_age_ns", _) => limits.max_age_ns = value.extract()?,
            ("discard_new", _) => limits.discard_new = value.extract()?,
            ("discard_new_per_subject", _) => limits.discard_new_per_subject = value.extract()?,
            ("duplicate_window_ns", _) => limits.duplicate_window_ns = value.extract()?,
            ("no_ack", _) => limits.no_ack = value.extract()?,
            ("allow_rollup", _) => limits.allow_rollup = value.extract()?,
            ("deny_purge", _) => limits.deny_purge = value.extract()?,
            ("sealed", _) => limits.sealed = value.extract()?,
            ("keep_newest", _) => limits.keep_newest = value.extract()?,
            ("memory", Some(made)) => made.memory = value.extract()?,
            ("first_seq", Some(made)) => made.first_seq = value.extract()?,
            ("account", Some(made)) => made.account = value.extract()?,
            ("channel_len", Some(made)) => made.channel_len = value.extract()?,
            _ => return Err(PyTypeError::new_err(format!("unexpected keyword argument '{name}'"))),
        }
    }
    Ok(())
}

#[pymethods]
impl StreamState {
    #[new]
    #[pyo3(
        signature = (name, **limits),
        text_signature = "(name, *, max_msgs=-1, max_bytes=-1, max_msgs_per_subject=-1, max_msg_size=-1, max_age_ns=0, \
            discard_new=False, discard_new_per_subject=False, duplicate_window_ns=0, no_ack=False, allow_rollup=False, \
            deny_purge=False, sealed=False, keep_newest=False, memory=False, first_seq=1, account='$G', channel_len=0)"
    )]
    fn new(name: String, limits: Option<&Bound<'_, PyDict>>) -> PyResult<StreamState> {
        let (mut identity, mut found) = (Identity { name, ..Identity::default() }, Limits::default());
        options(limits, &mut found, Some(&mut identity))?;
        Ok(StreamState { inner: log::StreamState::new(identity, found) })
    }

    #[pyo3(signature = (**limits))]
    fn configure(&mut self, limits: Option<&Bound<'_, PyDict>>) -> PyResult<bool> {
        let mut found = self.inner.limits().clone();
        options(limits, &mut found, None)?;
        Ok(self.inner.configure(found))
    }

    #[getter]
    fn messages(&self) -> u64 {
        self.inner.messages()
    }

    #[getter]
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    #[getter]
    fn first_seq(&self) -> u64 {
        self.inner.first_seq()
    }

    #[getter]
    fn last_seq(&self) -> u64 {
        self.inner.last_seq()
    }

    #[getter]
    fn first_ts_ns(&self) -> i64 {
        self.inner.first_ts_ns()
    }

    #[getter]
    fn last_ts_ns(&self) -> i64 {
        self.inner.last_ts_ns()
    }

    #[getter]
    fn num_subjects(&self) -> usize {
        self.inner.num_subjects()
    }

    #[getter]
    fn num_deleted(&self) -> u64 {
        self.inner.num_deleted()
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in self.inner.statistics() {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }

    fn admit(&mut self, py: Python<'_>, batch: &Batch, now_ns: i64) -> PyResult<Admission> {
        Admission::new(py, self.inner.admit(&batch.inner, now_ns))
    }

    fn fits(&self, batch: &Batch) -> bool {
        self.inner.fits(&batch.inner)
    }

    fn unresolved<'py>(&self, py: Python<'py>, batch: &Batch) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.inner.unresolved(&batch.inner).iter().map(|subject| subject_to_py(py, subject)).collect()
    }

    fn inexact<'py>(&self, py: Python<'py>, filters: Vec<Bound<'py, PyAny>>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let filters = subject_bytes(&filters)?;
        self.inner.inexact(&borrowed(&filters)).into_iter().map(|subject| subject_to_py(py, subject)).collect()
    }

    fn note_last(&mut self, subject: &Bound<'_, PyAny>, sequence: u64) -> PyResult<()> {
        self.inner.note_last(&subject_from_py(subject)?, sequence);
        Ok(())
    }

    fn note_first(&mut self, sequence: u64, timestamp_ns: i64) {
        self.inner.note_first(sequence, timestamp_ns);
    }

    #[pyo3(signature = (values, now_ns, *, below_seq=0))]
    fn trim(&mut self, values: Values<'_>, now_ns: i64, below_seq: u64) -> PyResult<(usize, i64)> {
        self.inner.trim(&values.slices(), now_ns, below_seq).map_err(corrupt)
    }

    fn over(&self) -> bool {
        self.inner.over()
    }

    fn remove(&mut self, values: Values<'_>) -> PyResult<u64> {
        self.inner.remove(&values.slices()).map_err(corrupt)
    }

    fn reset(&mut self, next_seq: u64) {
        self.inner.reset(next_seq);
    }

    #[pyo3(signature = (from_seq, values, *, to_seq=0))]
    fn check(&self, from_seq: u64, values: Values<'_>, to_seq: u64) -> PyResult<u64> {
        self.inner.check(from_seq, &values.slices(), to_seq).map_err(corrupt)
    }

    fn live(&self, sequence: u64) -> bool {
        self.inner.live(sequence)
    }

    fn live_between(&self, low: u64, high: u64) -> u64 {
        self.inner.live_between(low, high)
    }

    fn deleted(&self, limit: usize) -> Vec<u64> {
        self.inner.deleted(limit)
    }

    fn subjects<'py>(
        &self,
        py: Python<'py>,
        pattern: &Bound<'py, PyAny>,
        offset: usize,
        limit: usize,
    ) -> PyResult<Vec<(Bound<'py, PyAny>, u64)>> {
        let pattern = subject_from_py(pattern)?;
        let page = self.inner.subjects(&pattern, offset, limit);
        page.into_iter().map(|(subject, count)| Ok((subject_to_py(py, subject)?, count))).collect()
    }

    fn bounds(&self, filters: Vec<Bound<'_, PyAny>>) -> PyResult<(u64, u64, u64)> {
        let filters = subject_bytes(&filters)?;
        Ok(self.inner.bounds(&borrowed(&filters)))
    }

    fn pending(&self, filters: Vec<Bound<'_, PyAny>>, from_seq: u64) -> PyResult<(u64, bool)> {
        let filters = subject_bytes(&filters)?;
        Ok(self.inner.pending(&borrowed(&filters), from_seq))
    }

    fn last_of(&self, subject: &Bound<'_, PyAny>) -> PyResult<(u64, bool)> {
        Ok(self.inner.last_of(&subject_from_py(subject)?))
    }

    fn last_per_subject(&self, filters: Vec<Bound<'_, PyAny>>) -> PyResult<Vec<u64>> {
        let filters = subject_bytes(&filters)?;
        Ok(self.inner.last_per_subject(&borrowed(&filters)))
    }

    fn excess(&self, limit: usize) -> Vec<u64> {
        self.inner.excess(limit)
    }

    fn direct(&self, batch: &Batch, prefix: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
        Ok(self.inner.direct(&batch.inner, &subject_from_py(prefix)?))
    }

    fn delta<'py>(&mut self, py: Python<'py>) -> (Bound<'py, PyBytes>, Bound<'py, PyBytes>) {
        let (totals, removals) = self.inner.delta();
        (PyBytes::new(py, &totals), PyBytes::new(py, &removals))
    }

    fn checkpoint<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.checkpoint())
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.snapshot())
    }

    #[classmethod]
    #[pyo3(signature = (name, checkpoint, removals, totals, **limits))]
    fn restore(
        _class: &Bound<'_, PyType>,
        name: String,
        checkpoint: Option<PyBackedBytes>,
        removals: &Bound<'_, PyAny>,
        totals: Option<PyBackedBytes>,
        limits: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<(StreamState, u64)> {
        let (mut identity, mut found) = (Identity { name, ..Identity::default() }, Limits::default());
        options(limits, &mut found, Some(&mut identity))?;
        let removals = removals.try_iter()?.map(|block| block?.extract()).collect::<PyResult<Vec<PyBackedBytes>>>()?;
        let blocks = removals.iter().map(|block| &**block);
        let (inner, next) =
            log::StreamState::restore(identity, found, checkpoint.as_deref(), blocks, totals.as_deref())
                .map_err(corrupt)?;
        Ok((StreamState { inner }, next))
    }

    fn rebuild(&mut self) -> u64 {
        self.inner.rebuild()
    }

    fn replay(&mut self, values: Values<'_>) -> PyResult<()> {
        self.inner.replay(&values.slices()).map_err(corrupt)
    }

    fn replayed(&mut self) -> bool {
        self.inner.replayed()
    }

    fn expire_ids(&mut self, now_ns: i64) {
        self.inner.expire_ids(now_ns);
    }

    fn replay_ids(&mut self, segments: &Bound<'_, PyAny>, now_ns: i64) -> PyResult<()> {
        for segment in segments.try_iter()? {
            let segment: PyBackedBytes = segment?.extract()?;
            self.inner.replay_ids(&segment, now_ns).map_err(corrupt)?;
        }
        Ok(())
    }

    fn ids<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.ids())
    }

    fn ids_expired(&self, segment: PyBackedBytes, now_ns: i64) -> PyResult<bool> {
        self.inner.ids_expired(&segment, now_ns).map_err(corrupt)
    }
}
