//! The outcome of an admission, to Python.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::convert::subject_to_py;
use super::records::Records;
use super::refusal;
use crate::codec::record;
use crate::log;
use crate::py::engine::Engine;

/// What admitting one batch came to.
#[pyclass(frozen, module = "streamd._engine")]
pub(super) struct Admission {
    inner: log::Admission,
    records: Py<Records>,
}

impl Admission {
    pub(super) fn new(py: Python<'_>, mut inner: log::Admission) -> PyResult<Admission> {
        let block = std::mem::take(&mut inner.block);
        Ok(Admission { inner, records: Py::new(py, Records::from(block))? })
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
    fn records(&self, py: Python<'_>) -> Py<Records> {
        self.records.clone_ref(py)
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
    fn rolled_up(&self) -> bool {
        self.inner.purges.iter().any(|(subject, _)| subject.is_empty())
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
}
