# make quickstart | install | test | test-all | newest-keras | reliability | mutants | lint | web-demo: each makes its own .venv when there is none.

PYTHON ?= $(firstword $(foreach python,python3.13 python3.12 python3.11 python3,$(shell \
    $(python) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(python))))
INSTALLED := .venv/.installed
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -q --numprocesses auto --dist loadscope --no-loadscope-reorder --durations 12

.PHONY: quickstart install test test-all newest-keras reliability mutants lint web-demo

quickstart: $(INSTALLED)
	$(BIN)/python tools/quickstart.py

install: $(INSTALLED)

test: $(INSTALLED)
	$(BIN)/python -m pytest -q --doctest-modules kyolo tools/mutants.py
	$(PYTEST)

test-all: test
	$(PYTEST) -m slow

# Brings .venv to the newest Keras that setup.cfg allows, and tests every private name that kyolo uses of it.
KERAS := $(shell sed -n 's/^ *\(keras >=.*\)/\1/p' setup.cfg)
newest-keras: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --upgrade "$(KERAS)"
	$(BIN)/python -m pytest -q tests/compat_test.py

# Minutes a try: trainings are killed at random moments and must end as one that was not.
TRIES ?= 20
reliability: $(INSTALLED)
	$(BIN)/python tests/reliability/kills.py --tries $(TRIES)

# Hours; ONLY=boxes takes the modules whose path begins so, SAMPLE=20 draws that many mutants of each.
mutants: $(INSTALLED)
	nice -n 19 $(BIN)/python tools/mutants.py $(if $(ONLY),--only $(ONLY)) $(if $(SAMPLE),--sample $(SAMPLE))

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# MODEL=detector.tflite: what the page opens with; without it the page asks. Needs npm, and nothing of .venv.
PORT ?= 8000
web-demo: examples/web/node_modules
	@test -n "$(PYTHON)" || { echo "expected Python 3.11, 3.12 or 3.13, received none: make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) examples/web/serve.py --port $(PORT) $(if $(MODEL),--model "$(MODEL)")

examples/web/node_modules: examples/web/package-lock.json
	@command -v npm >/dev/null || { echo "expected npm, received nothing; install Node.js 18 or newer" >&2; exit 2; }
	npm ci --prefix examples/web --no-audit --no-fund
	touch $@

$(INSTALLED): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "kyolo needs Python 3.11, 3.12 or 3.13; none was found: make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
