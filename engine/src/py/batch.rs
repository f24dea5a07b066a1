//! Messages on their way between the hub and Python: `Batch`, `Message`, `Payload`.

use std::ops::Range;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView, PyType};

use super::engine::str_of;

/// A payload in one piece or in several.
#[derive(FromPyObject)]
pub(super) enum Pieces {
    One(PyBackedBytes),
    Many(Vec<PyBackedBytes>),
}

/// One message of a batch.
#[pyclass(module = "streamd._engine", frozen, get_all)]
pub(crate) struct Message {
    subject: Py<PyAny>,
    reply: Py<PyAny>,
    headers: Py<PyBytes>,
    payload: Py<PyBytes>,
    conn: u64,
}

/// Messages of one tap.
#[pyclass(module = "streamd._engine", frozen)]
pub(crate) struct Batch {
    pub(crate) inner: crate::batch::Batch,
}

#[pymethods]
impl Batch {
    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __getitem__(&self, py: Python<'_>, index: isize) -> PyResult<Message> {
        let index = if index < 0 { index + self.inner.len() as isize } else { index };
        let message = usize::try_from(index).ok().and_then(|index| self.inner.get(index));
        let message = message.ok_or_else(|| PyIndexError::new_err("batch index out of range"))?;
        Ok(Message {
            subject: str_of(py, message.subject)?.unbind(),
            reply: str_of(py, message.reply)?.unbind(),
            headers: PyBytes::new(py, message.headers).unbind(),
            payload: PyBytes::new(py, message.payload).unbind(),
            conn: message.conn,
        })
    }

    fn payloads(this: &Bound<'_, Self>) -> Vec<Payload> {
        (0..this.get().inner.len()).map(|index| Payload { batch: this.clone().unbind(), index }).collect()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn headed(&self) -> Vec<usize> {
        self.inner.iter().enumerate().filter(|(_, message)| !message.headers.is_empty()).map(|(at, _)| at).collect()
    }

    fn without(&self, others: Vec<PyRef<'_, Batch>>) -> Batch {
        Batch { inner: self.inner.without(others.iter().map(|other| &other.inner)) }
    }

    fn encode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let (head, arena) = self.inner.encode();
        joined(py, &[&head, arena])
    }

    fn encode_behind<'py>(&self, py: Python<'py>, prefix: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let (head, arena) = self.inner.encode();
        let length = u32::try_from(head.len() + arena.len()).map_err(|_| PyValueError::new_err("beyond 4 GiB"))?;
        joined(py, &[prefix, &length.to_le_bytes(), &head, arena])
    }

    #[classmethod]
    fn decode(_class: &Bound<'_, PyType>, data: &Bound<'_, PyAny>) -> PyResult<Batch> {
        let inner = match Slice::of(data)? {
            Some(slice) => crate::batch::Batch::decode(slice),
            None => crate::batch::Batch::decode(PyBuffer::<u8>::get(data)?.to_vec(data.py())?),
        };
        Ok(Batch { inner: inner.ok_or_else(|| PyValueError::new_err("not an encoded batch"))? })
    }
}

/// A part of a bytes object, which never changes and so needn't be copied.
#[derive(Debug)]
struct Slice {
    whole: PyBackedBytes,
    place: Range<usize>,
}

impl Slice {
    /// Of bytes, or of a view of some; None for what is neither.
    fn of(data: &Bound<'_, PyAny>) -> PyResult<Option<Slice>> {
        if let Ok(bytes) = data.downcast::<PyBytes>() {
            return Ok(Some(Slice { place: 0..bytes.as_bytes().len(), whole: bytes.clone().into() }));
        }
        let Ok(view) = data.downcast::<PyMemoryView>() else { return Ok(None) };
        let (owner, buffer) = (view.getattr("obj")?, PyBuffer::<u8>::get(view)?);
        let Ok(bytes) = owner.downcast::<PyBytes>() else { return Ok(None) };
        let start = (buffer.buf_ptr() as usize).checked_sub(bytes.as_bytes().as_ptr() as usize);
        let place = start.map(|start| start..start + buffer.len_bytes());
        let place = place.filter(|place| buffer.is_c_contiguous() && bytes.as_bytes().get(place.clone()).is_some());
        Ok(place.map(|place| Slice { whole: bytes.clone().into(), place }))
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self.whole.get(self.place.clone()).unwrap_or_default()
    }
}

fn joined<'py>(py: Python<'py>, parts: &[&[u8]]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, parts.iter().map(|part| part.len()).sum(), |mut out| {
        for part in parts {
            let (front, rest) = out.split_at_mut(part.len());
            front.copy_from_slice(part);
            out = rest;
        }
        Ok(())
    })
}

/// The payload of a message, where it lies in its batch.
#[pyclass(module = "streamd._engine", frozen)]
pub(crate) struct Payload {
    batch: Py<Batch>,
    index: usize,
}

impl Payload {
    /// Its bytes.
    pub(crate) fn data(&self) -> &[u8] {
        self.batch.get().inner.get(self.index).map_or(&[], |message| message.payload)
    }
}

#[pymethods]
impl Payload {
    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.data())
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Batch>()?;
    module.add_class::<Message>()?;
    module.add_class::<Payload>()
}
