# Every target installs what it needs into .venv first; nothing has to be activated.
# Kept to POSIX sh and GNU make 3.81, the one that macOS ships.

PYTHON ?= python3
# One for each core; more than four at a time might not fit into the memory.
TEST_WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); \
  if [ "$$cores" -gt 4 ]; then echo 4; else echo "$$cores"; fi)
PORT ?= 8000

PY := .venv/bin/python
INSTALLED := .venv/.installed
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
SITE := _build/html/.nojekyll
PAGE_SOURCES := _config.yml _toc.yml tools/snippets.py tools/page_notes.py \
  $(shell find assets book transfer_tutorial -type f ! -name '*.pyc' ! -path '*/.*')
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
# Cells of one notebook share a kernel, and tests of one file share what was costly to make:
# a whole file goes to one worker; in the order of book/conftest.py, not by the number of
# its tests. One process more than workers, since they also wait: for kernels, browsers,
# clusters. And one run for all, so that a notebook uses the time that a test waits.
PROCESSES := $(shell expr $(TEST_WORKERS) + 1)
PARALLEL := $(if $(filter-out 1,$(TEST_WORKERS)),-n $(PROCESSES) --dist loadfile --no-loadscope-reorder)

# As in tools/audit_site.py, which looks for the same.
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable

.PHONY: help book serve browser test execute lint benchmark clean

help:
	@echo "make book       build the website from the notebooks' stored outputs"
	@echo "make serve      serve it at http://localhost:$(PORT)"
	@echo "make test       test the package and, in a browser, the website; then every notebook;"
	@echo "                with a worker for each of up to four cores, or TEST_WORKERS=2"
	@echo "make browser    install Chromium for these tests, if there is none (Debian, Ubuntu)"
	@echo "make execute    run the notebooks that have changed and store their outputs;"
	@echo "                NOTEBOOK=book/code/x.md runs one, FORCE=1 runs all"
	@echo "make lint       ruff and codespell"
	@echo "make benchmark  run the side-by-side measurements"
	@echo "make clean      remove the built website (the installation in .venv stays)"

# The stamp is written last, so an installation that broke off is not taken for done.
$(INSTALLED): requirements.txt pyproject.toml
	@$(PY) -c 'import pip; $(SUPPORTED)' >/dev/null 2>&1 || { \
	  command -v $(PYTHON) >/dev/null 2>&1 || { \
	    echo "Error: there is no '$(PYTHON)'. Install Python 3.10 to 3.13, or name one: make PYTHON=/path/to/python" >&2; exit 1; }; \
	  $(PYTHON) -c '$(SUPPORTED)' || { \
	    echo "Error: '$(PYTHON)' is $$($(PYTHON) --version 2>&1), but 3.10 to 3.13 is needed. Name one: make PYTHON=/path/to/python" >&2; exit 1; }; \
	  echo "Making .venv with $$($(PYTHON) --version) ..."; \
	  $(PYTHON) -m venv --clear .venv || { \
	    echo "Error: .venv could not be made (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; }
	@echo "Installing the pinned packages into .venv (2 GB on disk, some minutes the first time) ..."
	@$(PIP) -r requirements.txt && $(PIP) --no-deps --no-build-isolation --editable . || { \
	  echo "Error: the installation failed, see above. Nothing was marked as done: run make again" >&2; exit 1; }
	@touch $@

# Built from nothing each time: a warning on a page that Sphinx thinks unchanged would
# otherwise be reported once and then forgotten. The reference imports the package;
# with oneDNN off TensorFlow does so in silence.
book: $(INSTALLED)
	@echo "Building the website from the stored outputs ..."
	@rm -rf _build
	@TF_ENABLE_ONEDNN_OPTS=0 $(PY) .venv/bin/jupyter-book build . --quiet -W -n --keep-going || { \
	  echo "Error: the website is not clean; each warning above counts as an error" >&2; exit 1; }
	@touch _build/html/.nojekyll
	@echo "Done. Open _build/html/index.html in a browser, or run: make serve"

$(SITE): $(PAGE_SOURCES) | $(INSTALLED)
	@$(MAKE) --no-print-directory book

serve: $(SITE)
	@echo "Serving the website at http://localhost:$(PORT); Ctrl-C stops it"
	@$(PY) -m http.server --directory _build/html $(PORT)

browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null 2>&1 && exit 0; done; \
	echo "Installing Chromium ..."; \
	{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install chromium >/dev/null; } || { \
	  echo "Error: Chromium was not installed, see above. Install it or Chrome in your system's way" >&2; exit 1; }

test: $(SITE)
	@echo "Testing the package, the text of the book and the website, then every notebook ..."
	@$(PY) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=1200 \
	  --nbval-sanitize-with=tests/nbval_sanitize.cfg $(PARALLEL) -rs tests book

execute: $(INSTALLED)
	@$(PY) tools/execute.py $(if $(FORCE),--force) $(NOTEBOOK)
	@$(PY) tools/list_claims.py

lint: $(INSTALLED)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m codespell_lib .

benchmark: $(INSTALLED)
	@set -e; found=; for script in benchmarks/*.py; do \
	  [ -e "$$script" ] || continue; found=yes; echo "== $$script"; $(PY) "$$script"; done; \
	  [ -n "$$found" ] || echo "There are no benchmarks yet."

clean:
	@rm -rf _build
