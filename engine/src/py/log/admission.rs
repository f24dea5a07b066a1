//! The outcome of an admission, to Python.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::convert::{borrowed, subject_bytes, subject_to_py};
use super::refusal;
use crate::codec::record;
use crate::log;
use crate::py::engine::Engine;

/// What admitting one batch came to.
#[pyclass(frozen, module = "streamd._engine")]
pub(super) struct Admission {
    inner: log::Admission,
    records: PyOnceLock<Py<PyList>>,
}

impl Admission {
    pub(super) fn new(inner: log::Admission) -> Admission {
        Admission { inner, records: PyOnceLock::new() }
    }
}

#[pymethods]
impl Admission {
    #[getter]
    fn first_seq(&self) -> u64 {
        self.inner.first_seq
    }

    #[getter]
    fn last_seq(&self) -> u64 {
        self.inner.last_seq
    }

    #[getter]
    fn records(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let build = || {
            let pair = |(sequence, value): (u64, &[u8])| {
                PyTuple::new(py, [PyBytes::new(py, &record::key(sequence)), PyBytes::new(py, value)])
            };
            let records = self.inner.records().map(pair).collect::<PyResult<Vec<_>>>()?;
            PyResult::Ok(PyList::new(py, records)?.unbind())
        };
        self.records.get_or_try_init(py, build).map(|records| records.clone_ref(py))
    }

    #[getter]
    fn deletes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.inner.deletes.iter().map(|sequence| PyBytes::new(py, &record::key(*sequence))))
    }

    #[getter]
    fn purges<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyAny>, u64)>> {
        self.inner.purges.iter().map(|(subject, below)| Ok((subject_to_py(py, subject)?, *below))).collect()
    }

    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.ids)
    }

    #[getter]
    fn over(&self) -> bool {
        self.inner.over
    }

    #[getter]
    fn stored(&self) -> u64 {
        self.inner.stored
    }

    #[getter]
    fn refused(&self) -> u64 {
        self.inner.refused
    }

    #[getter]
    fn duplicates(&self) -> u64 {
        self.inner.duplicates
    }

    fn ack(&self, engine: &mut Engine) {
        self.inner.ack(&mut engine.hub);
    }

    fn refuse(&self, engine: &mut Engine, code: u16, err_code: u32, description: String) {
        self.inner.refuse(&mut engine.hub, &refusal(code, err_code, description));
    }

    fn matching(&self, filters: Vec<Bound<'_, PyAny>>) -> PyResult<u64> {
        let filters = subject_bytes(&filters)?;
        Ok(self.inner.matching(&borrowed(&filters)))
    }
}
