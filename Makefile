# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
#
# Everything a person does with a checkout.  Needs git, make and Python 3.11 or newer with venv;
# the rest goes to .venv.

PYTHON ?= python3
ADDRESS ?= 127.0.0.1:9000
DIR ?= ./export
TESTS ?= tests
TRIAL ?=
# How many processes run tests: many of them wait, and more than four hardly help.
JOBS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 4 ? cores : 4)))
BENCH ?=
PEER ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet
METADATA := setup.py pyproject.toml

.PHONY: help run test demo bench check tools clean

help:
	@echo "make run      install to $(VENV) and start a server on $(ADDRESS), data in $(DIR)"
	@echo "              (ADDRESS=HOST:PORT and DIR=FOLDER change that)"
	@echo "make demo     show in a minute that what is stored encrypted is encrypted"
	@echo "make test     run all tests (TESTS='tests.s3 tests.kes': only these; JOBS=1: not at once)"
	@echo "make tools    build or install the clients and servers that the tests run against"
	@echo "make check    style, types and layers"
	@echo "make bench    measure speed against the limits of this machine (BENCH=--help: what else)"
	@echo "              (PEER=http://HOST:PORT compares with that S3 server instead)"
	@echo "make clean    remove everything that is not data: $(VENV), caches"
	@echo
	@echo "PYTHON=python3.12 takes another Python for $(VENV)."

run: $(VENV)/run.stamp
	exec $(BIN)/kypello server --address "$(ADDRESS)" "$(DIR)"

test: $(VENV)/test.stamp
	$(BIN)/python -b -Wall -m twisted.trial $(if $(JOBS),-j $(JOBS)) $(TRIAL) $(TESTS)

demo: $(VENV)/demo.stamp
	@$(BIN)/python docs/demo.py

bench: $(VENV)/run.stamp
	$(BIN)/python -m bench $(if $(PEER),--peer "$(PEER)") $(BENCH)

check: $(VENV)/check.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/towncrier build --draft >/dev/null

tools:
	.ci/tools
	.ci/clients

clean:
	rm -rf $(VENV) build dist *.egg-info _trial_temp* .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/run.stamp: $(METADATA) | $(BIN)/python
	@echo "installing Kypello to $(VENV)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/demo.stamp $(VENV)/test.stamp $(VENV)/check.stamp: $(VENV)/%.stamp: $(VENV)/run.stamp
	@echo "installing what \"make $*\" needs to $(VENV)"
	@$(INSTALL) --editable ".[$*]"
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON).  On Debian: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), and Kypello needs 3.11 or newer." >&2; \
		echo "Name another: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv.  On Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
