# Two commands matter: `make demo` and `make test`. Both build .venv on a fresh machine first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check schemas benchmark clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## the whole chain on generated raw data, end to end
	$(BIN)/mmbind demo

test: $(VENV)/.installed  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n auto --dist loadfile

check: test

schemas: $(VENV)/.installed  ## write schemas/*.json anew from the models
	$(BIN)/python -m mmbind_data.json_schemas
	$(BIN)/python -m mmbind_train.json_schemas

benchmark: $(VENV)/.installed  ## ratios against named peers
	$(BIN)/python -m pytest -m benchmark -s tests/benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info demo
