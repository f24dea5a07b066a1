//! Stand-in of this part of the skin.

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

create_exception!(streamd._engine, CorruptRecord, PyValueError, "Stored bytes fail their checksum or their form.");

pub(crate) fn corrupt(err: crate::codec::record::Corrupt) -> PyErr {
    CorruptRecord::new_err(err.0)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("CorruptRecord", module.py().get_type::<CorruptRecord>())
}
