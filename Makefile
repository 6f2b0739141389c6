# Everything runs in .venv; `make setup` fills it from pyproject.toml at the versions of constraints.txt.
PYTHON ?= python3.11
VENV ?= .venv
ACCEPT ?= .accept
RUN := $(VENV)/bin/python

.PHONY: setup demo test accept lint sync bench
setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --upgrade pip
	$(RUN) -m pip install -e '.[dev]' -c constraints.txt
	touch $@

demo: setup ## The main job on phantoms: three teachers, joint teacher, student, baselines, report (demo/runs/report/index.html)
	$(RUN) scripts/demo.py

test: setup
	$(RUN) -m pytest -n auto --dist loadfile

accept: export ACCEPT := $(ACCEPT)
accept: setup ## Exported students in a MONAI Label server and an NVFLARE federation, in a pinned environment of their own
	$(RUN) tests/accept/environment.py
	$(RUN) tests/accept/students.py
	$(ACCEPT)/venv/bin/python -m pytest -c tests/accept/pytest.ini tests/accept

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) scripts/sync_recipes.py --check

sync: setup ## Write the recipes of common/recipes into every bundle
	$(RUN) scripts/sync_recipes.py

bench: setup
	$(RUN) scripts/bench.py
