//! The key of a store, to Python.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::corrupt;
use crate::codec::seal::{self, Code};

/// Seals and opens payloads of records.
#[pyclass(frozen, module = "streamd._engine")]
pub(super) struct Cipher {
    pub(super) inner: seal::Cipher,
}

#[pymethods]
impl Cipher {
    #[new]
    #[pyo3(signature = (key, nonce, name=None))]
    fn new(key: &[u8], nonce: &[u8], name: Option<&str>) -> PyResult<Cipher> {
        let (Ok(key), Ok(nonce)) = (key.try_into(), nonce.try_into()) else {
            return Err(PyValueError::new_err("a key has 32 bytes, a nonce 12"));
        };
        let code = match name {
            None => Code::preferred(),
            Some("AES") => Code::Aes,
            Some("CHACHA") => Code::ChaCha,
            Some(_) => return Err(PyValueError::new_err("a cipher is AES or CHACHA")),
        };
        Ok(Cipher { inner: seal::Cipher::new(key, code, nonce) })
    }

    #[getter]
    fn name(&self) -> &'static str {
        match self.inner.code() {
            Code::Aes => "AES",
            Code::ChaCha => "CHACHA",
        }
    }

    fn opened<'py>(&self, py: Python<'py>, values: Vec<Option<Bound<'py, PyBytes>>>) -> PyResult<Bound<'py, PyList>> {
        let mut plain = Vec::new();
        let mut opened = Vec::with_capacity(values.len());
        for value in values {
            opened.push(match value {
                Some(sealed) if self.inner.open_to(&mut plain, sealed.as_bytes()).map_err(corrupt)? => {
                    Some(PyBytes::new(py, &plain))
                }
                asis => asis,
            });
        }
        PyList::new(py, opened)
    }

    fn __repr__(&self) -> String {
        format!("Cipher({})", self.name())
    }
}
