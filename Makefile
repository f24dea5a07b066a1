# Everything a fresh machine needs is set up by the targets themselves: `make run` and `make test` are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUST_SOURCES := $(shell find engine/src -name '*.rs')
CARGO := cargo
ENGINE := --manifest-path engine/Cargo.toml

.PHONY: install run test lint unit fmt bench wheel fuzz interop soak clean

install: $(INSTALLED)

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "streamd needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c requirements.lock --upgrade pip
	touch $@

$(VENV)/.dependencies: $(VENV)/.python requirements.lock pyproject.toml
	$(BIN)/pip install -q -c requirements.lock --group dev
	touch $@

# The build back-end compiles the engine (release) and brings a Rust toolchain if there is none.
$(INSTALLED): $(VENV)/.dependencies pyproject.toml engine/Cargo.toml engine/Cargo.lock $(RUST_SOURCES)
	$(BIN)/pip install -q -c requirements.lock -e .
	touch $@

run: install
	$(BIN)/streamd -c conf/single.conf

test: install lint unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(CARGO) fmt $(ENGINE) --check
	$(CARGO) clippy -q $(ENGINE) --locked --all-targets --features python -- -D warnings

unit: install
	$(CARGO) test -q $(ENGINE) --locked
	$(BIN)/python -m pytest -m "not soak and not interop"

fmt: install
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(CARGO) fmt $(ENGINE)

bench: install
	$(BIN)/python -m benchmarks --plot docs/benchmark.png

wheel: $(VENV)/.dependencies
	$(BIN)/maturin build --release --locked --out dist

fuzz:
	./engine/fuzz/run

interop: install
	$(BIN)/python -m pytest tests/interop -m interop -rs

soak: install
	STREAMD_SOAK=1 $(BIN)/python -m pytest -m "soak" -rs
	./engine/fuzz/run

clean:
	rm -rf $(VENV) dist engine/target engine/fuzz/target
