//! Between Python objects and bytes.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use pyo3::buffer::ReadOnlyCell;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySequence, PyString};

use crate::pages::Source;

/// A sequence of bytes objects, held so that their contents can be borrowed.
pub(super) struct Values<'py>(Vec<Bound<'py, PyBytes>>);

impl Values<'_> {
    /// The contents.
    pub(super) fn slices(&self) -> Vec<&[u8]> {
        self.0.iter().map(|value| value.as_bytes()).collect()
    }
}

impl<'py> FromPyObject<'py> for Values<'py> {
    fn extract_bound(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let bytes = |item: Bound<'py, PyAny>| Ok(item.downcast_into::<PyBytes>()?);
        if let Ok(list) = object.downcast::<PyList>() {
            return list.iter().map(bytes).collect::<PyResult<Vec<_>>>().map(Values);
        }
        object.downcast::<PySequence>()?.try_iter()?.map(|item| bytes(item?)).collect::<PyResult<Vec<_>>>().map(Values)
    }
}

/// A subject as Python has it: bytes that are no UTF-8 are escaped as surrogates, as file names are.
pub(super) fn subject_to_py<'py>(py: Python<'py>, subject: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match std::str::from_utf8(subject) {
        Ok(text) => Ok(PyString::new(py, text).into_any()),
        Err(_) => Ok(OsStr::from_bytes(subject).into_pyobject(py)?.into_any()),
    }
}

/// And back.
pub(super) fn subject_from_py(subject: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match subject.extract::<Cow<'_, str>>() {
        Ok(text) => Ok(text.as_bytes().to_vec()),
        Err(_) => Ok(subject.extract::<OsString>()?.into_vec()),
    }
}

/// All of a list of subjects.
pub(super) fn subject_bytes(subjects: &[Bound<'_, PyAny>]) -> PyResult<Vec<Vec<u8>>> {
    subjects.iter().map(subject_from_py).collect()
}

/// Slices of them.
pub(super) fn borrowed(subjects: &[Vec<u8>]) -> Vec<&[u8]> {
    subjects.iter().map(Vec::as_slice).collect()
}

/// The contents of any buffer, a file mapped into memory too: read through cells, since others may write to it.
pub(super) struct Mapped<'a>(pub(super) &'a [ReadOnlyCell<u8>]);

impl Source for Mapped<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn copy(&self, at: usize, into: &mut [u8]) {
        for (byte, cell) in into.iter_mut().zip(&self.0[at..]) {
            *byte = cell.get();
        }
    }
}
