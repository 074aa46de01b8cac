# The usual tasks, each one command of the project. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
UV ?= uv
LOCK := $(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" -c requirements/constraints.in

.PHONY: help install test lint docs demo reference picture lock audit sbom ci

help:            ## list the tasks
	@sed -n 's/^\([a-z]*\): *[a-z.\/ ]*## /  make \1\t/p' $(MAKEFILE_LIST)

install:         ## everything to work on the code, into .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e ".[dev]"
	$(BIN)/pre-commit install

test:            ## the tests, on two processes
	$(BIN)/pytest -n 2

lint:            ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs:            ## the pages, into runs/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "look at runs/site/index.html"

demo:            ## the whole way, in a minute
	$(BIN)/cstl-edge demo

reference:       ## the pages and pictures of docs/ that are made from the code
	$(BIN)/python docs/scripts/reference.py
	$(BIN)/python docs/scripts/floors.py

picture:         ## the README's moving picture, from a run of the demo
	$(BIN)/cstl-edge demo --out runs/picture
	$(BIN)/python docs/scripts/demo_picture.py --run "$$(ls -d runs/picture/*/ | tail -1)"

lock:            ## requirements/*.txt: tested versions with hashes (needs uv)
	$(LOCK) --extra cv --extra secure pyproject.toml requirements/test.in -o requirements/edge.txt
	$(LOCK) --extra cv --extra secure --extra serve pyproject.toml -o requirements/serve.txt
	$(LOCK) --extra dev pyproject.toml $(shell sed -n 's/^[a-z]/--no-emit-package &/p' requirements/unlocked.in) \
		-o requirements/dev.txt

audit:           ## known vulnerabilities of the locked versions (needs pip-audit)
	pip-audit --strict --disable-pip --require-hashes -r requirements/edge.txt
	pip-audit --strict --disable-pip --require-hashes -r requirements/serve.txt
	pip-audit --strict --disable-pip --require-hashes -r requirements/dev.txt

sbom:            ## bill of materials of the edge runtime, runs/sbom.json (needs cyclonedx-bom)
	mkdir -p runs
	cyclonedx-py requirements requirements/edge.txt --pyproject pyproject.toml -o runs/sbom.json

ci:              ## what the continuous integration does
	bash .ci/run
