# Two commands do everything: `make demo` and `make test`. Both need only Python 3.11 and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
# CPU wheel of torch: a plain `torch` pulls gigabytes of CUDA packages.
TORCH := torch==2.13.0

.PHONY: demo test test-fast lint types bench bench-audit bench-report bench-privacy bench-consent bench-sim clean install

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: install  ## five hospitals train together, privately; prints where the report is
	$(BIN)/fedge demo

test: install  ## the whole suite
	$(BIN)/python -m pytest -n 2

test-fast: install  ## without the slow ones
	$(BIN)/python -m pytest -n 2 -m 'not slow'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

bench: install  ## rounds per second of the demo's workload, and where the time goes
	$(BIN)/python -m benchmarks.rounds

bench-audit: install  ## what the audit log costs, up to a million entries
	$(BIN)/python -m benchmarks.audit

bench-privacy: install  ## what ledger, accountant and private training cost, and secure aggregation beside SecAgg+
	$(BIN)/python -m benchmarks.privacy
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.secagg

bench-report: install  ## what a report costs, up to a thousand rounds of a hundred clients
	$(BIN)/python -m benchmarks.reports

bench-consent: install  ## a million records judged at once, against the plain fold
	$(BIN)/python -m benchmarks.consent

bench-sim: install  ## simulated rounds beside Flower on Ray and a plain loop; writes table and plot to docs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m benchmarks.simulation --out docs/benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
