# Everything a fresh machine needs is set up by the targets themselves: `make run` and `make test` are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUST_SOURCES := $(shell find engine/src -name '*.rs')
CARGO := $(shell command -v cargo)
ifeq ($(CARGO),)
CARGO := @echo "not run, there is no Rust toolchain (https://rustup.rs): cargo"
else
# It takes no part in how make shares the processors.
CARGO := env -u MAKEFLAGS -u MFLAGS $(CARGO)
endif
ENGINE := --manifest-path engine/Cargo.toml

.PHONY: install run test lint unit unit-engine unit-sim unit-server fmt proto bench wheel fuzz interop compose-test soak lock clean

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
	$(BIN)/pip install -q -c requirements.lock --build-constraint requirements.lock -e .
	$(BIN)/python -m compileall -q streamd
	PYTHONDONTWRITEBYTECODE= $(BIN)/streamd -t -c conf/single.conf >/dev/null 2>&1
	touch $@

run: install
	$(BIN)/streamd -c conf/single.conf

# Two at a time, and of the server's tests three: most wait for something, which compilers and simulations don't.
test: install
	@$(MAKE) --no-print-directory -j2 unit-server lint unit-engine unit-sim || { echo "make test: failed, see above" >&2; exit 1; }

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest streamd._engine --allowlist engine/stubtest.allow
	$(CARGO) fmt $(ENGINE) --check
	$(CARGO) clippy -q $(ENGINE) --locked --all-targets --features python -- -D warnings

unit: unit-engine unit-sim unit-server

unit-engine: install
	nice $(CARGO) test -q $(ENGINE) --locked

unit-sim: install
	nice $(BIN)/python -m pytest -m "not soak and not interop" -rs -p no:cacheprovider tests/sim

unit-server: install
	$(BIN)/python -m pytest -m "not soak and not interop" -rs -n 3 --dist loadfile --ignore=tests/sim

fmt: install
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(CARGO) fmt $(ENGINE)

# The generated files are in the repository; this is for whoever changes the schema.
proto: install
	$(BIN)/pip install -q -c requirements.lock --group proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. streamd/stan/schema.proto

bench: install
	$(BIN)/python -m benchmarks --plot docs/benchmark.png

wheel: $(VENV)/.dependencies
	$(BIN)/maturin build --release --locked --out dist

fuzz:
	./engine/fuzz/run

interop: install
	$(BIN)/python -m pytest -m "interop and not soak" -rs

# docker-compose.yml for real, where a Docker daemon is there or can be started; where not, it says so and fails.
compose-test: install
	$(BIN)/python -m tests.compose.run

# All the long runs. What can't run on this machine is listed and counts as a failure.
soak: install
	@failed=0; \
	STREAMD_SOAK=1 $(BIN)/python -m pytest -m soak -rs || failed=1; \
	./engine/fuzz/run || failed=1; \
	exit $$failed

# Pin anew: the newest versions that pyproject.toml allows.
lock:
	rm -rf .lock
	$(PYTHON) -m venv .lock
	.lock/bin/pip install -q --upgrade pip
	.lock/bin/pip install -q --group dev --group proto
	.lock/bin/pip install -q $$(.lock/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"])')
	{ head -1 requirements.lock; .lock/bin/pip freeze --all --exclude setuptools --exclude wheel; } > .lock/requirements
	mv .lock/requirements requirements.lock
	rm -rf .lock

clean:
	rm -rf $(VENV) tests/stan/.venv-stan dist engine/target engine/fuzz/target streamd/_engine*.so .hypothesis .mypy_cache .ruff_cache .pytest_cache
