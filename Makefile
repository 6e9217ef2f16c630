# Every target installs what it needs into .venv first; nothing has to be activated.
# Kept to POSIX sh and GNU make 3.81, the one that macOS ships.

PYTHON ?= python3
NBVAL_WORKERS ?= 1

PY := .venv/bin/python
INSTALLED := .venv/.installed
# Cells of one notebook share a kernel, so a whole notebook goes to one worker.
NBVAL_PARALLEL := $(if $(filter-out 1,$(NBVAL_WORKERS)),-n $(NBVAL_WORKERS) --dist loadfile)

.PHONY: help book test serve execute lint benchmark clean

help:
	@echo "make book       build the website from the notebooks' stored outputs"
	@echo "make serve      build it and serve it at http://localhost:8000"
	@echo "make test       run the package's tests, then every notebook"
	@echo "make execute    re-run the notebooks that have changed; NOTEBOOK=book/code/x.md"
	@echo "                picks one, FORCE=1 runs all"
	@echo "make lint       ruff and codespell"
	@echo "make benchmark  run the side-by-side measurements"
	@echo "make clean      remove the built site (the installation in .venv stays)"

# The stamp is written last, so an installation that broke off is not taken for done.
$(INSTALLED): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "Error: no '$(PYTHON)' found; install Python 3.10 to 3.13, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Error: '$(PYTHON)' is $$($(PYTHON) --version 2>&1), but Python 3.10 to 3.13 is needed; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PY) -c 'import pip' >/dev/null 2>&1 || { echo "Making .venv with $$($(PYTHON) --version) ..."; \
	  $(PYTHON) -m venv --clear .venv; } || { \
	  echo "Error: could not make .venv (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing the pinned packages into .venv (about 2 GB on disk, a few minutes the first time) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt && \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . || { \
	  echo "Error: the installation failed (see above); nothing was marked as done, so run make again" >&2; exit 1; }
	@touch $@

# Built from nothing each time: a warning on a page that Sphinx thinks unchanged would
# otherwise be reported once and then forgotten. The reference imports the package;
# with oneDNN off TensorFlow does so in silence.
book: $(INSTALLED)
	@echo "Building the website from the stored outputs ..."
	@rm -rf _build
	@TF_ENABLE_ONEDNN_OPTS=0 .venv/bin/jupyter-book build . --quiet -W -n --keep-going || { \
	  echo "Error: the website was not built cleanly; each warning above counts as an error" >&2; exit 1; }
	@touch _build/html/.nojekyll
	@echo "The website is in _build/html. Open _build/html/index.html in a browser, or run: make serve"

serve: book
	@echo "Serving at http://localhost:8000; Ctrl-C stops it"
	@$(PY) -m http.server --directory _build/html 8000

test: $(INSTALLED)
	@echo "Testing the package ..."
	@$(PY) -m pytest tests
	@echo "Running every notebook ..."
	@$(PY) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=600 \
	  --nbval-sanitize-with=tests/nbval_sanitize.cfg $(NBVAL_PARALLEL) book

execute: $(INSTALLED)
	@$(PY) tools/execute.py $(if $(FORCE),--force) $(NOTEBOOK)

lint: $(INSTALLED)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/codespell .

benchmark: $(INSTALLED)
	@set -e; found=; for script in benchmarks/*.py; do \
	  [ -e "$$script" ] || continue; found=1; echo "== $$script"; $(PY) "$$script"; done; \
	  [ -n "$$found" ] || echo "There are no benchmarks yet."

clean:
	@rm -rf _build
