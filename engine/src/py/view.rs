//! Memory of the engine that Python reads where it lies: a turn's large output, and records on their way to a store.

use std::borrow::Cow;
use std::ffi::c_int;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::log::block::Block;

/// Where buffers wait that Python is done with.
#[derive(Clone, Default)]
pub(super) struct Returned(Arc<Mutex<Vec<Vec<u8>>>>);

impl Returned {
    /// All of them.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Small output as bytes, large output as a view of the buffer that it was framed in, which comes back here.
    pub(super) fn wrap<'py>(&self, py: Python<'py>, output: Cow<'_, [u8]>) -> PyResult<Bound<'py, PyAny>> {
        match output {
            Cow::Borrowed(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
            Cow::Owned(bytes) => {
                let loan = Loan { bytes, returned: self.clone() };
                Ok(PyMemoryView::from(Bound::new(py, View(Memory::Output(loan)))?.as_any())?.into_any())
            }
        }
    }
}

/// A buffer on loan, given back with the last view of it.
struct Loan {
    bytes: Vec<u8>,
    returned: Returned,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.returned.0.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.bytes));
    }
}

enum Memory {
    Output(Loan),
    Records(Arc<Block>, Range<usize>),
}

/// Read-only memory to Python.
#[pyclass(module = "streamd._engine", frozen)]
pub(super) struct View(Memory);

impl View {
    /// A part of a block, which whoever changes it copies first.
    pub(super) fn of_records(block: Arc<Block>, place: Range<usize>) -> View {
        View(Memory::Records(block, place))
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Memory::Output(loan) => &loan.bytes,
            Memory::Records(block, place) => block.bytes(place.clone()),
        }
    }
}

#[pymethods]
impl View {
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = slf.get().bytes();
        let (data, size) = (bytes.as_ptr().cast_mut().cast(), bytes.len() as ffi::Py_ssize_t);
        // SAFETY: the interpreter gives a `view` to fill. It holds a reference to this object until it is released; the
        // object is frozen, and neither its vector nor a block that it shares is ever changed as long as it is there. So
        // `size` bytes stay at `data`; nobody writes to them, as the view is read-only.
        match unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data, size, 1, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}
