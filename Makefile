# make demo     train the default network on event data and open its report
# make test     the tests, with the peer libraries present
# make check    format, lint and types
# make docs     the documentation as a site, build/site/index.html
# make bench    the benchmarks beside the peers, quick form
# make clean    remove the environment, the caches and what was built (never runs/)
#
# Each target prepares .venv on its first use, with the versions of constraints.txt. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
PIP := $(RUN)python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
BENCHMARKS := $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))

.PHONY: demo test check docs bench clean

demo: $(VENV)/.installed
	OMP_WAIT_POLICY=PASSIVE $(RUN)spikenet train --preset digits-dvs --seeds 0 1 2

test: $(VENV)/.tools
	$(RUN)python -m pytest --numprocesses auto --dist loadfile

check: $(VENV)/.tools
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)mypy

# The gallery shows what the examples print and draw; after `make test` they have been run.
docs: $(VENV)/.docs
	$(RUN)python docs/run_examples.py
	NO_MKDOCS_2_WARNING=1 $(RUN)mkdocs build --strict

bench: $(VENV)/.tools
	set -e; for file in $(BENCHMARKS); do echo "== $$file"; $(RUN)python $$file --quick; done

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and exactly: a looser wish may bring gigabytes of CUDA libraries along.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "spikenet needs Python 3.11 to 3.13, but $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	@echo "Preparing $(VENV): torch and the libraries (once, a few minutes with the downloads) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) torch
	@$(PIP) --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.installed requirements-peers.txt
	@echo "Preparing $(VENV): test tools and the peer libraries (once) ..."
	@$(PIP) --editable '.[dev]'
	@$(PIP) --no-deps --requirement requirements-peers.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.tools
	@echo "Preparing $(VENV): the tools of the documentation (once) ..."
	@$(PIP) --editable '.[docs]'
	@touch $@
