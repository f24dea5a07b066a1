//! Frames of Raft, to Python.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::codec::frame::{self, Message};
use crate::py::batch::Payload;

/// (kind, group, term, at, at_term, commit, round, entries).
fn fields<'py>(py: Python<'py>, message: &Message<'_>) -> PyResult<Bound<'py, PyTuple>> {
    let entries = message.entries.iter().map(|(term, command)| (*term, PyBytes::new(py, command)));
    let entries = PyTuple::new(py, entries)?;
    let [term, at, at_term, commit, round] = message.numbers;
    (message.kind, message.group, term, at, at_term, commit, round, entries).into_pyobject(py)
}

type Decoded<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyList>, bool);

#[pyfunction]
fn frame_decode<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Option<Decoded<'py>>> {
    match data.downcast::<PyBytes>() {
        Ok(data) => decode(py, data.as_bytes()),
        Err(_) => decode(py, data.downcast::<Payload>()?.get().data()),
    }
}

fn decode<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Option<Decoded<'py>>> {
    let Some(frame) = frame::decode(data) else { return Ok(None) };
    let messages = PyList::empty(py);
    for message in &frame.messages {
        messages.append(fields(py, message)?)?;
    }
    let configs = frame.messages.iter().any(|message| message.configs);
    let (sender, receiver) = (frame.sender.into_pyobject(py)?, frame.receiver.into_pyobject(py)?);
    Ok(Some((sender.into_any(), receiver.into_any(), messages, configs)))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(frame_decode, module)?)
}
