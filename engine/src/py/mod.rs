//! The Python skin, the only part that knows Python. Its manual is `streamd/_engine.pyi`.

use pyo3::prelude::*;

mod batch;
mod consumer;
mod engine;
mod log;
mod raft;
mod stan;
mod view;

#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    module.add("BUILD_PROFILE", profile)?;
    engine::register(module)?;
    batch::register(module)?;
    log::register(module)?;
    consumer::register(module)?;
    raft::register(module)?;
    stan::register(module)
}
