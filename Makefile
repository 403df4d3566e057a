# Two commands: `make demo` and `make test`. Both make the environment they need.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint browser docs clean

demo: .venv/ready
	$(BIN)/leanet demo

test: lint
	$(BIN)/pytest -m "not slow"

test-all: lint browser
	$(BIN)/pytest

browser:
	@command -v chromium google-chrome > /dev/null || { \
	  echo "installing Debian's chromium, for the test of the page"; \
	  $(if $(filter 0,$(shell id -u)),,sudo) sh -c "apt-get update -qq && apt-get install -y -qq chromium"; }

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/docs
	$(BIN)/pytest tests/test_public.py -k documented
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv/docs: .venv/ready
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[docs]"
	touch $@

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv demo-run site
