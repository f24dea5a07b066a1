//! What a turn has to be written: small output as bytes, large output in the buffer that it was framed in.

use std::borrow::Cow;
use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

/// Where buffers wait that Python is done with.
#[derive(Clone, Default)]
pub(super) struct Returned(Arc<Mutex<Vec<Vec<u8>>>>);

impl Returned {
    /// All of them.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes, or a view of the buffer they are in.
    pub(super) fn wrap<'py>(&self, py: Python<'py>, output: Cow<'_, [u8]>) -> PyResult<Bound<'py, PyAny>> {
        match output {
            Cow::Borrowed(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
            Cow::Owned(bytes) => {
                let output = Output { bytes, returned: self.clone() };
                Ok(PyMemoryView::from(Bound::new(py, output)?.as_any())?.into_any())
            }
        }
    }
}

/// A buffer on loan: read-only memory to Python, given back with the last view of it.
#[pyclass(module = "streamd._engine", frozen)]
struct Output {
    bytes: Vec<u8>,
    returned: Returned,
}

#[pymethods]
impl Output {
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        let (data, size) = (bytes.as_ptr().cast_mut().cast(), bytes.len() as ffi::Py_ssize_t);
        // SAFETY: the interpreter gives a `view` to fill. It holds a reference to this object until it is released, the
        // object is frozen and its vector private and never changed, so `size` bytes stay at `data`; nobody writes to
        // them, as the view is read-only.
        match unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data, size, 1, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.returned.0.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.bytes));
    }
}
