//! Skin of the hub: `Engine`, the event kinds and the subject functions.

use std::borrow::Cow;

use ahash::RandomState;
use hashbrown::HashMap;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::batch::{Batch, Pieces};
use super::view::Returned;
use crate::hub::{Event, Hub, Lane, Limits, Options, Traffic};
use crate::publish::{Outgoing, Publisher};
use crate::subject;

const CONNECT: u8 = 1;
const CLOSE: u8 = 2;
const TAP: u8 = 3;
const INTEREST: u8 = 4;
const STALL: u8 = 5;
const DRAINED: u8 = 6;
const INFO: u8 = 7;
const PONG: u8 = 8;
const FILLING: u8 = 9;

type Turn<'py> = Option<(Bound<'py, PyList>, Bound<'py, PyList>)>;

/// Bytes of a str that may hold surrogate escapes.
pub(super) fn bytes_of<'a>(text: &'a Bound<'_, PyString>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(plain) = text.to_str() {
        return Ok(Cow::Borrowed(plain.as_bytes()));
    }
    let encoded = text.call_method1("encode", ("utf-8", "surrogateescape"))?;
    Ok(Cow::Owned(encoded.extract()?))
}

/// A str of bytes; those that aren't UTF-8 as surrogate escapes.
pub(super) fn str_of<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text).into_any()),
        Err(_) => PyBytes::new(py, bytes).call_method1("decode", ("utf-8", "surrogateescape")),
    }
}

/// Connections, accounts, taps and watches.
#[pyclass(module = "streamd._engine")]
pub(crate) struct Engine {
    pub(crate) hub: Hub,
    owners: HashMap<u64, Py<PyAny>, RandomState>,
    returned: Returned,
}

impl Engine {
    fn turn<'py>(&mut self, py: Python<'py>) -> PyResult<Turn<'py>> {
        let outputs = PyList::empty(py);
        let mut outcome = Ok(());
        self.returned.take().into_iter().for_each(|buffer| self.hub.give_back(buffer));
        let (owners, returned) = (&self.owners, &self.returned);
        self.hub.turn(|conn, output| {
            if let (Some(owner), true) = (owners.get(&conn), outcome.is_ok()) {
                outcome = returned.wrap(py, output).and_then(|output| outputs.append((owner.clone_ref(py), output)));
            }
        });
        outcome?;
        let events = self.hub.events();
        if outputs.is_empty() && events.is_empty() {
            return Ok(None);
        }
        let list = PyList::empty(py);
        for event in events {
            list.append(event_tuple(py, event)?)?;
        }
        Ok(Some((outputs, list)))
    }
}

fn event_tuple(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        Event::Connect(conn, json) => (CONNECT, conn, PyBytes::new(py, &json)).into_pyobject(py),
        Event::Info(conn, json) => (INFO, conn, PyBytes::new(py, &json)).into_pyobject(py),
        Event::Pong(conn) => (PONG, conn, py.None()).into_pyobject(py),
        Event::Close(conn, reason) => (CLOSE, conn, reason).into_pyobject(py),
        Event::Tap(tap) => (TAP, tap, py.None()).into_pyobject(py),
        Event::Filling(tap) => (FILLING, tap, py.None()).into_pyobject(py),
        Event::Interest(watch, now) => (INTEREST, watch, now).into_pyobject(py),
        Event::Stall(conn) => (STALL, conn, py.None()).into_pyobject(py),
        Event::Drained(conn) => (DRAINED, conn, py.None()).into_pyobject(py),
    }
}

/// Traffic, pending bytes and number of subscriptions of one connection.
fn figures(py: Python<'_>, (traffic, pending, subscriptions): (Traffic, usize, usize)) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("in_msgs", traffic.in_msgs)?;
    dict.set_item("in_bytes", traffic.in_bytes)?;
    dict.set_item("out_msgs", traffic.out_msgs)?;
    dict.set_item("out_bytes", traffic.out_bytes)?;
    dict.set_item("pending_bytes", pending)?;
    dict.set_item("subscriptions", subscriptions)?;
    Ok(dict)
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, max_payload=1 << 20, max_control_line=4096, max_pending=64 << 20, max_subscriptions=0,
                        max_subscription_tokens=0, tap_bytes_max=64 << 20, seed=0))]
    fn new(
        max_payload: usize,
        max_control_line: usize,
        max_pending: usize,
        max_subscriptions: usize,
        max_subscription_tokens: usize,
        tap_bytes_max: usize,
        seed: u64,
    ) -> Self {
        let hub = Hub::new(Limits {
            max_payload,
            max_control_line,
            max_pending,
            max_subscriptions,
            max_subscription_tokens,
            tap_bytes_max,
            seed,
        });
        Engine {
            hub,
            owners: HashMap::with_hasher(RandomState::with_seeds(43, 47, 53, 59)),
            returned: Returned::default(),
        }
    }

    #[pyo3(signature = (owner, account, greeting, *, auth_required=false))]
    fn open(&mut self, owner: Py<PyAny>, account: &str, greeting: &[u8], auth_required: bool) -> u64 {
        let conn = self.hub.open(account, greeting, auth_required);
        self.owners.insert(conn, owner);
        conn
    }

    fn close(&mut self, conn: u64) {
        self.hub.close(conn);
        self.owners.remove(&conn);
    }

    fn feed<'py>(&mut self, py: Python<'py>, conn: u64, data: PyBuffer<u8>, size: usize) -> PyResult<Turn<'py>> {
        if !data.is_c_contiguous() {
            return Err(PyValueError::new_err("the buffer is not contiguous"));
        }
        let length = size.min(data.len_bytes());
        if length > 0 {
            // SAFETY: the buffer is contiguous and held until the end of this call, `length` is within it, and a u8 has
            // no alignment or invalid value. Nobody writes to it meanwhile: the lock of the interpreter isn't released
            // and no Python code runs between here and the end of `feed`, which copies whatever it keeps.
            #[allow(unsafe_code)]
            let bytes = unsafe { std::slice::from_raw_parts(data.buf_ptr().cast::<u8>(), length) };
            self.hub.feed(conn, bytes);
        }
        self.turn(py)
    }

    #[pyo3(signature = (conn, *, account, verbose, pedantic, echo, headers, no_responders, after_pong=None))]
    #[allow(clippy::too_many_arguments, reason = "the signature is the manual's")]
    fn connected<'py>(
        &mut self,
        py: Python<'py>,
        conn: u64,
        account: &str,
        verbose: bool,
        pedantic: bool,
        echo: bool,
        headers: bool,
        no_responders: bool,
        after_pong: Option<&[u8]>,
    ) -> PyResult<Turn<'py>> {
        let options = Options { verbose, pedantic, echo, headers, no_responders };
        self.hub.connected(conn, account, options, after_pong.unwrap_or_default());
        self.turn(py)
    }

    fn open_route(&mut self, owner: Py<PyAny>) -> u64 {
        let conn = self.hub.open_route();
        self.owners.insert(conn, owner);
        conn
    }

    fn route_welcome(&mut self, conn: u64) {
        self.hub.route_welcome(conn);
    }

    #[pyo3(signature = (conn, *, server_id, account=None, without=Vec::new()))]
    fn route_ready(&mut self, conn: u64, server_id: &str, account: Option<&str>, without: Vec<String>) {
        let without = without.into_iter().map(Into::into).collect();
        self.hub.route_ready(conn, server_id, Lane { account: account.map(Into::into), without });
    }

    fn routes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for route in self.hub.routes() {
            let dict = figures(py, (route.traffic, route.pending, route.subscriptions))?;
            dict.set_item("conn", route.conn)?;
            list.append(dict)?;
        }
        Ok(list)
    }

    #[pyo3(signature = (conn, text, reason))]
    fn fail(&mut self, conn: u64, text: Option<&str>, reason: &str) {
        self.hub.fail(conn, text, reason);
    }

    fn announce(&mut self, conn: u64, line: &[u8]) {
        self.hub.announce(conn, line);
    }

    fn write(&mut self, conn: u64, data: &[u8]) {
        self.hub.write(conn, data);
    }

    fn ping(&mut self, conn: u64) -> (u32, u64) {
        self.hub.ping(conn)
    }

    fn activity(&self, conn: u64) -> (u32, u64) {
        self.hub.activity(conn)
    }

    fn pause(&mut self, conn: u64) {
        self.hub.pause(conn);
    }

    fn resume(&mut self, conn: u64) {
        self.hub.resume(conn);
    }

    fn flush<'py>(&mut self, py: Python<'py>) -> PyResult<Turn<'py>> {
        self.turn(py)
    }

    fn notify_drained(&mut self, conn: u64) {
        self.hub.notify_drained(conn);
    }

    #[pyo3(signature = (account, *, discard=false))]
    fn tap(&mut self, account: &str, discard: bool) -> u64 {
        self.hub.tap(account, discard)
    }

    #[pyo3(signature = (tap, subject, queue=None))]
    fn tap_add(
        &mut self,
        tap: u64,
        subject: &Bound<'_, PyString>,
        queue: Option<&Bound<'_, PyString>>,
    ) -> PyResult<()> {
        let queue = queue.map(bytes_of).transpose()?;
        if self.hub.tap_add(tap, &bytes_of(subject)?, queue.as_deref().unwrap_or_default()) {
            return Ok(());
        }
        Err(PyValueError::new_err(format!("malformed subject {}", subject.repr()?)))
    }

    fn tap_remove(&mut self, tap: u64, subject: &Bound<'_, PyString>) -> PyResult<()> {
        self.hub.tap_remove(tap, &bytes_of(subject)?);
        Ok(())
    }

    fn untap(&mut self, tap: u64) {
        self.hub.untap(tap);
    }

    #[pyo3(signature = (tap, limit_bytes=0))]
    fn take(&mut self, tap: u64, limit_bytes: usize) -> Option<Batch> {
        self.hub.take(tap, limit_bytes).map(|inner| Batch { inner })
    }

    #[pyo3(signature = (account, subject, queue=None))]
    fn watch(
        &mut self,
        account: &str,
        subject: &Bound<'_, PyString>,
        queue: Option<&Bound<'_, PyString>>,
    ) -> PyResult<u64> {
        let queue = queue.map(bytes_of).transpose()?;
        Ok(self.hub.watch(account, &bytes_of(subject)?, queue.as_deref().unwrap_or_default()))
    }

    fn heard(&mut self, account: &str, subject: &Bound<'_, PyString>) -> PyResult<bool> {
        Ok(self.hub.interest(account, &bytes_of(subject)?, b""))
    }

    fn interested(&self, watch: u64) -> bool {
        self.hub.interested(watch)
    }

    fn unwatch(&mut self, watch: u64) {
        self.hub.unwatch(watch);
    }

    #[pyo3(signature = (account, subject, payload=None, *, reply=None, headers=None))]
    fn publish(
        &mut self,
        account: &str,
        subject: &Bound<'_, PyString>,
        payload: Option<Pieces>,
        reply: Option<&Bound<'_, PyString>>,
        headers: Option<&[u8]>,
    ) -> PyResult<u32> {
        let pieces: Vec<&[u8]> = match &payload {
            Some(Pieces::One(piece)) => vec![piece],
            Some(Pieces::Many(pieces)) => pieces.iter().map(|piece| piece.as_ref()).collect(),
            None => Vec::new(),
        };
        let to = bytes_of(subject)?;
        let reply = reply.map(bytes_of).transpose()?;
        let message = Outgoing {
            to: &to,
            subject: &to,
            reply: reply.as_deref().unwrap_or_default(),
            headers: &[headers.unwrap_or_default()],
            payload: &pieces,
        };
        Ok(self.hub.publish(account, message).receivers)
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let figures = self.hub.statistics();
        let dict = PyDict::new(py);
        dict.set_item("connections", figures.connections)?;
        dict.set_item("subscriptions", figures.subscriptions)?;
        dict.set_item("in_msgs", figures.traffic.in_msgs)?;
        dict.set_item("in_bytes", figures.traffic.in_bytes)?;
        dict.set_item("out_msgs", figures.traffic.out_msgs)?;
        dict.set_item("out_bytes", figures.traffic.out_bytes)?;
        dict.set_item("slow_consumers", figures.slow_consumers)?;
        dict.set_item("stalled_clients", figures.stalled_clients)?;
        dict.set_item("taps", figures.taps)?;
        dict.set_item("num_cache", figures.num_cache)?;
        dict.set_item("pending_bytes", figures.pending_bytes)?;
        Ok(dict)
    }

    /// All zeros for an unknown id.
    fn connection<'py>(&self, py: Python<'py>, conn: u64) -> PyResult<Bound<'py, PyDict>> {
        figures(py, self.hub.connection(conn).unwrap_or_default())
    }

    // Owners usually refer back to the engine.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.owners.values().try_for_each(|owner| visit.call(owner))
    }

    fn __clear__(&mut self) {
        self.owners.clear();
    }
}

#[pyfunction]
#[pyo3(signature = (subject, *, wildcards))]
fn subject_valid(subject: &Bound<'_, PyString>, wildcards: bool) -> PyResult<bool> {
    Ok(subject::valid(&bytes_of(subject)?, wildcards))
}

#[pyfunction]
fn subject_matches(pattern: &Bound<'_, PyString>, subject: &Bound<'_, PyString>) -> PyResult<bool> {
    Ok(subject::matches(&bytes_of(pattern)?, &bytes_of(subject)?))
}

#[pyfunction]
fn subject_collides(first: &Bound<'_, PyString>, second: &Bound<'_, PyString>) -> PyResult<bool> {
    Ok(subject::collides(&bytes_of(first)?, &bytes_of(second)?))
}

#[pyfunction]
fn subject_subset(inner: &Bound<'_, PyString>, outer: &Bound<'_, PyString>) -> PyResult<bool> {
    Ok(subject::subset(&bytes_of(inner)?, &bytes_of(outer)?))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let kinds = [
        ("CONNECT", CONNECT),
        ("CLOSE", CLOSE),
        ("TAP", TAP),
        ("INTEREST", INTEREST),
        ("STALL", STALL),
        ("DRAINED", DRAINED),
        ("INFO", INFO),
        ("PONG", PONG),
        ("FILLING", FILLING),
    ];
    for (name, kind) in kinds {
        module.add(name, kind)?;
    }
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(subject_valid, module)?)?;
    module.add_function(wrap_pyfunction!(subject_matches, module)?)?;
    module.add_function(wrap_pyfunction!(subject_collides, module)?)?;
    module.add_function(wrap_pyfunction!(subject_subset, module)?)
}
