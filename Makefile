# make demo | test | slow | check | bench | docs | new KIND=… NAME=… | clean
PYTHON ?= python3
BIN    := .venv/bin
STAMP  := .venv/.keyvalise-stamp
# One thread per worker: two workers on two cores must not fight over them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q
FAST   := -m "not slow and not gpu"

.PHONY: setup demo test house slow gpu check format lint types bench docs new clean

setup: $(STAMP)

# The constraints hold for the first install too: an unconstrained torch may be several gigabytes larger.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup  ## the main job
	$(BIN)/keyvalise demo $(ARGS)

test: setup  ## every law on every recipe, small counts
	$(PYTEST) $(FAST) -n 2 --dist worksteal --ignore tests/house $(ARGS)

house: setup  ## floors, vocabulary, sizes, docstrings, public names, README
	$(PYTEST) $(FAST) tests/house

slow: setup  ## all families and modes, full counts
	$(PYTEST) -m "slow and not gpu" -n 2 --dist worksteal $(ARGS)

gpu: setup
	$(PYTEST) -m gpu $(ARGS)

check: format lint types house test  ## what CI requires

format: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check --quiet .

types: setup
	$(BIN)/mypy

bench: setup  ## decode, prefill and start against their rivals
	$(BIN)/python bench/all.py $(ARGS)

docs: setup  ## regenerate every table in docs/ and README
	$(BIN)/python -m tools.docs

new: setup  ## make new KIND=score NAME=novelty
	$(BIN)/python -m tools.new $(KIND) $(NAME)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist results
	find keyvalise tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
