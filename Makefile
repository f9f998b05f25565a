# Two commands on a fresh machine with Python and make: `make demo` and `make test`. Both set up .venv once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# 3D Slicer's own data classes and Qt, for the tests of the extension: pinned like Slicer, so apart from the rest
SLICER := .venv-slicer
SLICER_READY := $(SLICER)/.installed
# slicer-core beside these pins has wheels for Python 3.11 and 3.12: the first that runs here, else the tests are left out with a word
SLICER_PYTHON ?= $(firstword $(foreach python,$(PYTHON) python3.12 python3.11,$(shell $(python) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))" 2>/dev/null && echo $(python))))

.PHONY: demo test test-slicer test-slow test-cluster test-all check install clean

install: $(READY)

# Installed again only when what is to be installed has changed. torch comes first and alone: its version is pinned, so that
# no other package pulls another build of it.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/medseg warm --quiet
	touch $(READY)

demo: $(READY)
	$(BIN)/medseg demo -o medseg_demo --overwrite

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(SLICER_READY): pyproject.toml constraints-slicer.txt
	test -x $(SLICER)/bin/python || $(SLICER_PYTHON) -m venv $(SLICER)
	$(SLICER)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-slicer.txt -e '.[slicer-test]'
	touch $(SLICER_READY)

# One worker a core, a file at a time to each; torch with one thread a worker, else they wait for one another.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m 'not slow and not gpu' --ignore=tests/cluster --doctest-modules medseg tests docs
	$(MAKE) test-slicer

ifeq ($(SLICER_PYTHON),)
test-slicer:
	@echo "tests/slicer left out: they need Python 3.11 or 3.12 (make test-slicer SLICER_PYTHON=...)"
else
test-slicer: $(SLICER_READY)
	OMP_NUM_THREADS=1 QT_QPA_PLATFORM=offscreen $(SLICER)/bin/python -m pytest -n auto --dist loadfile -m 'not slow and not gpu' tests/slicer
endif

# The slow rest; make test-all is everything.
test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m 'slow and not gpu' --ignore=tests/cluster tests

# Arrays and pools on a SLURM of one node on loopback; INSTALL=--install lets apt-get install it (as root)
test-cluster: $(READY)
	$(BIN)/python scripts/slurm_one_node.py $(INSTALL) -- $(BIN)/python -m pytest -m 'not gpu' tests/cluster

test-all: test test-slow test-cluster

clean:
	rm -rf $(VENV) $(SLICER) medseg_demo
