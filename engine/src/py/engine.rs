//! Stand-in of this part of the skin.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::batch::Message;

#[pyclass(module = "streamd._engine")]
pub(crate) struct Engine {
    pub(crate) hub: crate::hub::Hub,
}

#[pymethods]
impl Engine {
    #[new]
    fn new() -> Engine {
        Engine { hub: crate::hub::Hub::default() }
    }

    fn sent(&mut self, py: Python<'_>) -> Vec<(Py<PyBytes>, Py<PyBytes>, Py<PyBytes>)> {
        let bytes = |data: &[u8]| PyBytes::new(py, data).unbind();
        std::mem::take(&mut self.hub.sent)
            .iter()
            .map(|(to, headers, body)| (bytes(to), bytes(headers), bytes(body)))
            .collect()
    }

    #[getter]
    fn count(&self) -> u64 {
        self.hub.count
    }
}

#[pyclass(module = "streamd._engine")]
pub(crate) struct Batch {
    pub(crate) inner: crate::batch::Batch,
}

#[pymethods]
impl Batch {
    #[new]
    fn new() -> Batch {
        Batch { inner: crate::batch::Batch::default() }
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn push(&mut self, subject: &[u8], reply: &[u8], headers: &[u8], payload: &[u8]) {
        self.inner.push(Message { subject, reply, headers, payload, conn: 1 });
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Engine>()?;
    module.add_class::<Batch>()
}
