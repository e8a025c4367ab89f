# make demo, make test: all that they need is made in .venv first. Wants Linux, make, Python 3.11, a C and a C++ compiler.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

DISTRIBUTIONS := ros2_ws/src/skimo_core ros2_ws/src/skimo_ros ros2_ws/src/skimo_bringup policy_server sim calibration
PACKAGING := constraints.txt $(wildcard $(foreach d,$(DISTRIBUTIONS),$(d)/setup.py $(d)/setup.cfg $(d)/package.xml $(d)/pyproject.toml))
# Named for the contents of what it depends on, so that a change of pins or packaging sets up again, and nothing else does.
INSTALLED := $(VENV)/installed-$(shell cat $(PACKAGING) | sha256sum | cut -c1-16)

export OMP_NUM_THREADS := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format clean

help:
	@echo "make demo    set up, run the kitchen task through the whole stack on the twin, render a video"
	@echo "make test    set up, check style and types, run every test"
	@echo "make setup   only make $(VENV) and build the ROS interfaces into it"
	@echo "make lint    style and types alone;  make format  put the style right"

setup: $(INSTALLED)
	@$(BIN)/python ros2_ws/build.py --quiet

$(INSTALLED): | check-tools
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing pinned packages into $(VENV) (minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet -r constraints.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation $(foreach d,$(DISTRIBUTIONS),-e $(d))
	@rm -f $(VENV)/installed-*
	@touch $@

.PHONY: check-tools
check-tools:
	@command -v $(PYTHON) >/dev/null || { echo "setup: $(PYTHON) is missing: apt install python3.11 python3.11-venv (or make PYTHON=/path/to/python3.11)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "setup: $(PYTHON) is not Python 3.11, for which constraints.txt holds: apt install python3.11 python3.11-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "setup: $(PYTHON) has no venv: apt install python3.11-venv"; exit 1; }
	@command -v "$${CC:-cc}" >/dev/null || { echo "setup: no C compiler: apt install build-essential"; exit 1; }
	@command -v "$${CXX:-c++}" >/dev/null || { echo "setup: no C++ compiler: apt install build-essential"; exit 1; }

demo: setup
	@$(BIN)/skimo demo

lint: setup
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet . || { echo "lint: ruff found the above (make format mends the layout)"; exit 1; }
	@$(BIN)/pyright

# Two processes share what needs only processor time, a file at a time; one that crashes is not begun anew, for which
# pytest-xdist would wait for ever. Then what is marked `alone` has the machine to itself: real time, which a pause of a
# shared machine spoils, so what fails there is tried once more, and named (RERUN). Plain `pytest` runs all of it one
# after the other.
test: lint
	@$(BIN)/python ros2_ws/build.py --quiet --tests
	@$(BIN)/python -m pytest -q -m "not alone" -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0; shared=$$?; \
	$(BIN)/python -m pytest -q -m alone --reruns 1 -rR && exit $$shared

format: setup
	@$(BIN)/ruff check --quiet --fix .; $(BIN)/ruff format --quiet .

clean:
	rm -rf $(VENV)
