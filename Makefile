# Two commands: `make demo` tells the whole story on the first study, `make test` runs lint, types and tests.
# Both set up a virtual environment in .venv first; neither touches system packages or asks anything.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types tests bench bench-peers scale faults attacks mutants soak load drill matrix lock clean

demo: $(READY)
	@$(BIN)/allocator demo

test: lint types tests

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy src tests/independent
	$(BIN)/mypy verifier/verify.py

tests: $(READY)
	$(BIN)/pytest -n auto

# Requirement, tests, results: from the marks of a whole run. Rewrites docs/matrix.md; fails where a test is owed.
matrix: $(READY)
	@mkdir -p .matrix
	@rm -f .matrix/run.json; $(BIN)/pytest -n auto --matrix=.matrix/run.json; status=$$?; \
		$(BIN)/python tests/matrix.py .matrix/run.json && exit $$status

bench: $(READY)
	$(BIN)/python benchmarks/run.py

# Growth in PostgreSQL: records, studies, clients, bytes, copies. A quarter of an hour. Writes docs/scale.md.
scale: $(READY)
	$(BIN)/python benchmarks/scale.py --write docs/scale.md

# The same drawing by R's packages blockrand and randomizeR, where R has them; says so and ends where it has not.
bench-peers: $(READY)
	$(BIN)/python benchmarks/peers.py

# Each system call of a reveal and of a confirmation failed once, and killed; needs strace. Writes docs/faults.md.
faults: $(READY)
	$(BIN)/python faults/run.py --write docs/faults.md

# Every attack on a real home, on a plain hash chain and on a published audit log. Writes docs/attacks.md.
attacks: $(READY) $(VENV)/attacks/.ready
	$(BIN)/python attacks/run.py --write docs/attacks.md

$(VENV)/attacks/.ready: $(READY) attacks/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade \
		--target $(VENV)/attacks -r attacks/requirements.txt
	@touch $@

# Small faults in the modules that draw, one at a time: does a test find each? Twenty minutes. Writes docs/mutants.md.
mutants: $(READY) $(VENV)/mutants/.ready
	$(BIN)/python mutants/run.py --write docs/mutants.md

$(VENV)/mutants/.ready: $(READY) mutants/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade \
		--target $(VENV)/mutants -r mutants/requirements.txt
	@touch $@

# The state machine and the simulated study, with new seeds, for as long as asked: make soak SECONDS=600
SECONDS ?= 120
soak: $(READY)
	$(BIN)/python load/soak.py --seconds $(SECONDS)

# Many at once on logs in PostgreSQL, and the simulated study there; some ten minutes. Exits 1 at the first fault.
load: $(READY)
	$(BIN)/python load/at_once.py --postgres --processes 64 --studies 50 --each 50
	$(BIN)/python load/at_once.py --postgres --each 50
	$(BIN)/python load/at_once.py --postgres --each 50 --homes 2
	$(BIN)/python load/simulation.py --postgres

# PostgreSQL's primary killed under load, its standby promoted, three times; two to three minutes (docs/postgres.md).
drill: $(READY)
	$(BIN)/python load/failover.py

# Packages by version and hash, then this project itself; again whenever the lock or the project file changes.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed."; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# Needs `uv` (any way of installing it); writes versions and hashes, no addresses.
lock:
	uv pip compile pyproject.toml --extra dev --extra build --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --python-version 3.11 -o requirements.lock

clean:
	rm -rf $(VENV) .matrix .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
