# make demo    audit two planted classifiers on a real Triton server; no root, no GPU; built engines go to ~/.cache/audit-plugin
# make test    the whole test suite, on the CPU
# make check   linter, formatter, types, import directions

.PHONY: demo test check install bench clean help
.DEFAULT_GOAL := help

# The first Python that this project and the bundled server support and that can make an environment; else python3, which then says why not.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo $$p; exit; }; \
	done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Of what is installed a small part is ever imported: that is compiled when it is, and the rest never.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE
OUT ?= demo-output
ROWS ?= 150
TESTS ?= tests

help:
	@sed -n 's/^# //p' Makefile | head -3

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "$(PYTHON) cannot make an environment; install python3-venv, or set PYTHON"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

# torch goes first and by its exact pin: any other way takes a build with CUDA libraries along.
$(VENV)/.installed-%: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -c constraints.txt -e '.[$*]'
	touch $@

install: $(VENV)/.installed-dev

demo: $(VENV)/.installed-demo
	$(BIN)/audit-plugin demo --out $(OUT) --rows $(ROWS) $(if $(KEEP),--keep)

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# All benchmarks that need neither a GPU nor other data, or one: make bench NAME=depict_planted.  QUICK= runs the long versions.
# The whole planted suite first trains its generators, for hours: make bench NAME=planted_suite QUICK=
QUICK ?= --quick
NAME ?= $(filter-out engines_gpu leaves leaves_tree digits_explained case_%,$(basename $(notdir $(shell grep -l '^if __name__' tests/bench/*.py))))
bench: $(VENV)/.installed-dev
	set -e; for name in $(NAME); do $(BIN)/python -m tests.bench.$$name $(QUICK); done

# Leaves .venv and .kit, which take downloads to make again.
clean:
	rm -rf $(OUT) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
