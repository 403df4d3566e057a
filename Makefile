# Two commands: `make demo` and `make test`. Both make the environment they need.
PYTHON ?= python3
BIN := .venv/bin

# Tests of one file share what they made, so they stay in one process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

# Bytecode is kept even where the user's environment forbids it: otherwise each process compiles PyTorch's sources.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all tests all-tests lint lint-deploy browser docs clean

demo: .venv/ready
	$(BIN)/leanet demo

# Linting runs beside the tests.
test: .venv/ready
	$(MAKE) --no-print-directory --jobs 2 lint tests

test-all: .venv/ready browser
	$(MAKE) --no-print-directory --jobs 2 lint all-tests

tests: .venv/ready
	$(PYTEST) -m "not slow"

all-tests: .venv/ready
	$(PYTEST)

browser:
	@command -v chromium google-chrome > /dev/null || { \
	  echo "installing Debian's chromium, for the test of the page"; \
	  $(if $(filter 0,$(shell id -u)),,sudo) sh -c "apt-get update -qq && apt-get install -y -qq chromium"; }

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The files of deploy/ have linters of their own, in an environment of their own.
lint-deploy: .venv-deploy/ready
	.venv-deploy/bin/hadolint deploy/Dockerfile
	.venv-deploy/bin/yamllint --strict --config-data '{extends: default, rules: {line-length: {max: 120}}}' deploy
	.venv-deploy/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	.venv-deploy/bin/compose-lint deploy/compose.yaml
	.venv-deploy/bin/kubernetes-validate --strict deploy/kubernetes.yaml

.venv-deploy/ready: deploy/linters.txt
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/pip install --quiet --no-compile --requirement deploy/linters.txt
	touch $@

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
	rm -rf .venv .venv-deploy demo-run site
