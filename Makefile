# make demo    install into .venv and map Llama-3.1-8B onto a WSE-2
# make test    the whole test suite (REFERENCE=DIR: with the full reference data)
# make lint    ruff and basedpyright
# make clean   remove the environment and everything that was built
#
# A torch of your own choice (CPU or CUDA build) that is already in .venv is kept.

TORCH := torch==2.13.0
PYTHON := $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$p && break; done)
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check
PINNED := pyproject.toml constraints.txt

.PHONY: demo test lint clean

demo: .venv/installed
	.venv/bin/wscc --hw specs/wse2.wsc --model examples/llama-3.1-8b/config.json \
		--phase decode --context 4096

test: .venv/installed-dev
	.venv/bin/pytest -n 2 tests $(if $(REFERENCE),--reference="$(REFERENCE)")

# basedpyright cannot see through an editable install; the link shows it what `wscc` is.
lint: .venv/installed-dev
	@mkdir -p .venv/typing && ln -sfn ../.. .venv/typing/wscc
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/basedpyright

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: $(PINNED) | .venv/bin/python
	@echo "installing into .venv: a few minutes the first time"
	@$(PIP) "$(TORCH)"
	@$(PIP) -c constraints.txt -e .
	@touch $@

.venv/installed-dev: $(PINNED) | .venv/installed
	@echo "installing what the tests need"
	@$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv build dist out *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
