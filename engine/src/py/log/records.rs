//! A block of records, to Python.

use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::cipher::Cipher;
use super::convert::{borrowed, subject_bytes, Mapped};
use super::corrupt;
use crate::codec::{pack, record, seal};
use crate::log::block::{Block, Entry};
use crate::pages::Source;
use crate::py::view::View;

/// A record of so many bytes, alone in its entry, isn't copied for it.
const VIEW_BYTES_MIN: usize = 64 << 10;

/// Records of one commit.
#[pyclass(module = "streamd._engine")]
pub(super) struct Records {
    // Views share it: whoever changes it then has a copy.
    block: Arc<Block>,
}

impl From<Block> for Records {
    fn from(block: Block) -> Records {
        Records { block: Arc::new(block) }
    }
}

#[pymethods]
impl Records {
    #[new]
    #[pyo3(signature = (pairs=None))]
    fn new(pairs: Option<&Bound<'_, PyAny>>) -> PyResult<Records> {
        let mut block = Block::default();
        if let Some(pairs) = pairs {
            for pair in pairs.try_iter()? {
                let (key, value): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = pair?.extract()?;
                let sequence = record::key_sequence(key.as_bytes());
                if !sequence.is_some_and(|sequence| block.push_encoded(sequence, value.as_bytes())) {
                    return Err(PyValueError::new_err("keys are 8 bytes and ascend"));
                }
            }
        }
        Ok(block.into())
    }

    #[staticmethod]
    fn entries(entries: &Bound<'_, PyAny>) -> PyResult<Records> {
        let given = entries.try_iter()?.map(|entry| entry?.extract());
        let entries: Vec<(u64, i64, Bound<'_, PyBytes>)> = given.collect::<PyResult<_>>()?;
        let bytes = entries.iter().map(|(.., payload)| record::FIXED + payload.as_bytes().len()).sum();
        let mut block = Block::with_capacity(entries.len(), bytes);
        let mut last = None;
        for (sequence, timestamp_ns, payload) in entries {
            if last.is_some_and(|last| last >= sequence) {
                return Err(PyValueError::new_err("sequences ascend"));
            }
            last = Some(sequence);
            let (subject, headers, payload) = (&b""[..], &b""[..], payload.as_bytes());
            block.push(&record::Record { sequence, timestamp_ns, subject, headers, payload });
        }
        Ok(block.into())
    }

    #[staticmethod]
    fn unpacked(entry: &[u8]) -> PyResult<Records> {
        Ok(Block::unpacked(entry).map_err(corrupt)?.into())
    }

    #[getter]
    fn first_seq(&self) -> u64 {
        self.block.next(0).map_or(0, |(sequence, ..)| sequence)
    }

    #[getter]
    fn last_seq(&self) -> u64 {
        self.block.last_seq()
    }

    #[getter]
    fn size(&self) -> usize {
        self.block.size()
    }

    fn __len__(&self) -> usize {
        self.block.len()
    }

    fn __iter__(slf: Bound<'_, Records>) -> Packs {
        Records::packs(slf, 0)
    }

    fn packs(slf: Bound<'_, Records>, bytes_max: usize) -> Packs {
        Packs { records: slf.unbind(), place: 0, bytes_max }
    }

    fn read<'py>(&self, py: Python<'py>, from_seq: u64, limit: usize) -> Vec<Bound<'py, PyBytes>> {
        let values = self.block.from_place(self.block.place(from_seq)).take(limit);
        values.map(|(_, value)| PyBytes::new(py, value)).collect()
    }

    fn get<'py>(&self, py: Python<'py>, sequence: u64) -> Option<Bound<'py, PyBytes>> {
        self.block.get(sequence).map(|value| PyBytes::new(py, value))
    }

    fn matching(&self, filters: Vec<Bound<'_, PyAny>>) -> PyResult<u64> {
        let filters = subject_bytes(&filters)?;
        Ok(self.block.matching(&borrowed(&filters)))
    }

    fn extend(&mut self, more: &Records) -> PyResult<()> {
        if !Arc::make_mut(&mut self.block).extend(&more.block) {
            return Err(PyValueError::new_err("records ascend"));
        }
        Ok(())
    }

    fn sealed(&self, cipher: &Cipher) -> PyResult<Records> {
        let block = self.block.changed(seal::OVERHEAD, |out, value| cipher.inner.seal_into(out, value));
        Ok(block.map_err(corrupt)?.into())
    }

    fn discard(&mut self, keys: Vec<Bound<'_, PyBytes>>) {
        let block = Arc::make_mut(&mut self.block);
        for sequence in keys.iter().filter_map(|key| record::key_sequence(key.as_bytes())) {
            block.remove(sequence);
        }
    }

    fn discard_range(&mut self, low: u64, high: u64) {
        Arc::make_mut(&mut self.block).remove_range(low, high);
    }
}

/// Walks over the records in entries of a store: with no bytes for a pack, each is one by itself.
#[pyclass(module = "streamd._engine")]
struct Packs {
    records: Py<Records>,
    place: usize,
    bytes_max: usize,
}

#[pymethods]
impl Packs {
    fn __iter__(slf: Bound<'_, Packs>) -> Bound<'_, Packs> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let records = self.records.try_borrow(py)?;
        let block = &records.block;
        let Some(Entry { count, start, bytes, last, behind }) = block.entry(self.place, self.bytes_max) else {
            return Ok(None);
        };
        let place = std::mem::replace(&mut self.place, behind);
        let mut values = block.from_place(place).map(|(_, value)| value);
        if count == 1 {
            let key = PyBytes::new(py, &record::key(last)).into_any();
            if bytes >= VIEW_BYTES_MIN && self.bytes_max > 0 {
                let view = View::of_records(Arc::clone(block), start..start + bytes);
                return PyTuple::new(py, [key, Bound::new(py, view)?.into_any()]).map(Some);
            }
            let value = values.next().unwrap_or_default();
            return PyTuple::new(py, [key, PyBytes::new(py, value).into_any()]).map(Some);
        }
        let entry = PyBytes::new_with(py, pack::overhead(count) + bytes, |out| {
            pack::write(out, last, count, values);
            Ok(())
        })?;
        PyTuple::new(py, [PyBytes::new(py, &pack::key(last, count)), entry]).map(Some)
    }
}

#[pyfunction]
pub(super) fn unpack<'py>(
    py: Python<'py>,
    entries: Vec<Bound<'py, PyBytes>>,
    from_seq: u64,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let mut values = Vec::with_capacity(entries.len());
    for entry in entries {
        if pack::is_pack(entry.as_bytes()) {
            let records = pack::split(entry.as_bytes()).map_err(corrupt)?;
            let wanted = records.into_iter().filter(|(sequence, _)| *sequence >= from_seq);
            values.extend(wanted.map(|(_, value)| PyBytes::new(py, value)));
        } else if record::sequence(entry.as_bytes()).is_none_or(|sequence| sequence >= from_seq) {
            values.push(entry);
        }
    }
    Ok(values)
}

#[pyfunction]
pub(super) fn pick<'py>(
    py: Python<'py>,
    entries: Vec<PyBuffer<u8>>,
    sequences: Vec<u64>,
) -> PyResult<Vec<Option<Bound<'py, PyBytes>>>> {
    let one = |(entry, sequence): (&PyBuffer<u8>, u64)| {
        let cells = entry.as_slice(py).unwrap_or_default();
        if cells.is_empty() {
            return Ok(None);
        }
        let entry = Mapped(cells);
        let Some(place) = pack::pick(entry.len(), |at, into| entry.copy(at, into), sequence).map_err(corrupt)? else {
            return Ok(None);
        };
        PyBytes::new_with(py, place.len(), |out| {
            entry.copy(place.start, out);
            Ok(())
        })
        .map(Some)
    };
    entries.iter().zip(sequences).map(one).collect()
}

#[pyfunction]
pub(super) fn packed(keys: Vec<Bound<'_, PyBytes>>) -> usize {
    keys.iter().map(|key| pack::count(key.as_bytes())).sum()
}
