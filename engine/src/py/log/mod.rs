//! The log of a stream, to Python.

mod admission;
mod cipher;
mod convert;
mod records;
mod state;

use std::borrow::Cow;

use pyo3::buffer::PyBuffer;
use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::codec::puback::Refusal;
use crate::codec::record as codec;
use crate::log::{admission as admitted, direct, query};
use crate::pages;
use crate::py::batch::Batch;
use crate::py::engine::Engine;
use convert::{borrowed, subject_bytes, subject_from_py, subject_to_py, Mapped, Values};

create_exception!(streamd._engine, CorruptRecord, PyValueError, "Stored bytes fail their checksum or their form.");

/// What is wrong with stored bytes, as Python is told.
pub(crate) fn corrupt(err: codec::Corrupt) -> PyErr {
    CorruptRecord::new_err(err.0)
}

/// One decoded record.
#[pyclass(frozen, module = "streamd._engine")]
struct Record {
    value: PyBackedBytes,
    sequence: u64,
    timestamp_ns: i64,
}

impl Record {
    fn view(&self) -> PyResult<codec::Record<'_>> {
        codec::decode_unverified(&self.value).map_err(corrupt)
    }
}

#[pymethods]
impl Record {
    #[getter]
    fn sequence(&self) -> u64 {
        self.sequence
    }

    #[getter]
    fn timestamp_ns(&self) -> i64 {
        self.timestamp_ns
    }

    #[getter]
    fn subject<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        subject_to_py(py, self.view()?.subject)
    }

    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.view()?.headers))
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.view()?.payload))
    }

    fn __repr__(&self) -> String {
        format!("Record(sequence={}, timestamp_ns={})", self.sequence, self.timestamp_ns)
    }
}

#[pyfunction]
fn record_key(py: Python<'_>, sequence: u64) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &codec::key(sequence))
}

#[pyfunction]
fn record_decode(value: PyBackedBytes) -> PyResult<Record> {
    let record = codec::decode(&value).map_err(corrupt)?;
    let (sequence, timestamp_ns) = (record.sequence, record.timestamp_ns);
    Ok(Record { value, sequence, timestamp_ns })
}

#[pyfunction]
fn record_encode<'py>(
    py: Python<'py>,
    sequence: u64,
    timestamp_ns: i64,
    subject: &Bound<'_, PyAny>,
    headers: &[u8],
    payload: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let subject = &subject_from_py(subject)?;
    if subject.len() > codec::SUBJECT_MAX {
        return Err(PyValueError::new_err("a subject has at most 65,535 bytes"));
    }
    let mut out = Vec::new();
    codec::encode_into(&mut out, &codec::Record { sequence, timestamp_ns, subject, headers, payload });
    Ok(PyBytes::new(py, &out))
}

#[pyfunction]
fn select(values: Values<'_>, filters: Vec<Bound<'_, PyAny>>) -> PyResult<Vec<u64>> {
    let filters = subject_bytes(&filters)?;
    query::select(&values.slices(), &borrowed(&filters)).map_err(corrupt)
}

#[pyfunction]
fn count_matching(values: Values<'_>, filters: Vec<Bound<'_, PyAny>>) -> PyResult<usize> {
    select(values, filters).map(|found| found.len())
}

fn refusal(code: u16, err_code: u32, description: String) -> Refusal {
    Refusal { code, err_code, description: description.into() }
}

#[pyfunction]
#[pyo3(signature = (batch, engine, stream, code, err_code, description, *, account="$G"))]
fn refuse_batch(
    batch: &Batch,
    engine: &mut Engine,
    stream: &str,
    code: u16,
    err_code: u32,
    description: String,
    account: &str,
) {
    let refusal = refusal(code, err_code, description);
    admitted::refuse_batch(&batch.inner, &mut engine.hub, account, stream, &refusal);
}

#[pyfunction]
#[pyo3(signature = (engine, batch, stream, values, skip, *, account="$G"))]
fn reply_direct(
    engine: &mut Engine,
    batch: &Batch,
    stream: &str,
    values: Vec<Option<Bound<'_, PyBytes>>>,
    skip: Vec<bool>,
    account: &str,
) -> PyResult<()> {
    let values: Vec<Option<&[u8]>> = values.iter().map(|value| value.as_ref().map(|value| value.as_bytes())).collect();
    direct::reply(&mut engine.hub, account, &batch.inner, stream, &values, &skip).map_err(corrupt)
}

/// The name of a database, None for all, and what is wrong with it.
type Damaged = (Option<Cow<'static, [u8]>>, String);

#[pyfunction]
#[pyo3(signature = (data, page_size, *, thorough=false))]
fn verify_pages(py: Python<'_>, data: PyBuffer<u8>, page_size: usize, thorough: bool) -> PyResult<Vec<Damaged>> {
    let Some(cells) = data.as_slice(py) else {
        return Err(PyValueError::new_err("the buffer is not contiguous"));
    };
    let damages = pages::verify(&Mapped(cells), page_size, thorough);
    Ok(damages.into_iter().map(|damage| (damage.database.map(Cow::Owned), damage.text)).collect())
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("CorruptRecord", module.py().get_type::<CorruptRecord>())?;
    module.add_class::<Record>()?;
    module.add_class::<admission::Admission>()?;
    module.add_class::<records::Records>()?;
    module.add_class::<cipher::Cipher>()?;
    module.add_class::<state::StreamState>()?;
    module.add_function(wrap_pyfunction!(record_key, module)?)?;
    module.add_function(wrap_pyfunction!(record_decode, module)?)?;
    module.add_function(wrap_pyfunction!(record_encode, module)?)?;
    module.add_function(wrap_pyfunction!(records::unpack, module)?)?;
    module.add_function(wrap_pyfunction!(records::pick, module)?)?;
    module.add_function(wrap_pyfunction!(records::packed, module)?)?;
    module.add_function(wrap_pyfunction!(select, module)?)?;
    module.add_function(wrap_pyfunction!(count_matching, module)?)?;
    module.add_function(wrap_pyfunction!(refuse_batch, module)?)?;
    module.add_function(wrap_pyfunction!(reply_direct, module)?)?;
    module.add_function(wrap_pyfunction!(verify_pages, module)?)
}
