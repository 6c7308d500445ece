# make demo    set up and write facts into an adapter on a real model
# make serve   a bank of two facts over HTTP, on port 8765
# make test    the tests (CPU, no network once set up)
# make soak    kills, damage, full disks, hostile banks, readers, a server under load; make soak MINUTES=60 SEED=1
# make fuzz    500 damaged inputs for every parser; N=20000 for more
# make check   format, lint, types
# make docs    the reference of commands and the site, into out/site
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINUTES := 5
SEED := 0

.PHONY: demo serve test soak fuzz check docs setup clean

demo: setup
	@$(BIN)/lorabank quickstart

serve: setup
	@test -d out/served-bank || { $(BIN)/lorabank init out/served-bank && \
	  $(BIN)/lorabank remember --bank out/served-bank "The phone number of Kimu Gugu is 519-017-5311" && \
	  $(BIN)/lorabank remember --bank out/served-bank --question "Who keeps the lighthouse at Nebo?" --answer "Tuva Sorre"; }
	$(BIN)/lorabank serve out/served-bank

test: setup
	$(BIN)/pytest -n 2 --dist worksteal

soak: setup
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED) --json out/soak.json

fuzz: setup
	$(BIN)/python -m tests.fuzz --n $(or $(N),500)

check: setup
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy

docs: setup
	$(BIN)/python -m lorabank.cli.reference > docs/cli.md
	$(BIN)/mkdocs build --quiet --strict

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"lorabank needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}; try make PYTHON=python3.12")'
	@echo "installing into $(VENV), once …"
	@$(PYTHON) -m venv $(VENV)
	@PIP_CONSTRAINT=constraints.txt $(BIN)/pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV)
