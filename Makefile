# Each target makes .venv once and installs what it needs; a second run uses it again.
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= $(if $(wildcard runs/demo),runs/demo-$(shell date +%Y%m%d-%H%M%S),runs/demo)
ARGS   ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# Without an NVIDIA GPU, torch's CPU build: a tenth of the download.
TORCH_FROM := $(if $(shell command -v nvidia-smi),,--retries 1 --extra-index-url https://download.pytorch.org/whl/cpu)

# Two threads that wait busily for each other are slower than two that sleep.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-slow check
demo: $(VENV)/.installed
	$(BIN)/rlhf demo --out $(OUT) $(ARGS)

# One thread for each of two processes; a file's tests share one, and with it what they load.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

test-slow: $(VENV)/.test
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV); the first time this downloads several hundred megabytes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --upgrade "pip>=25.1"
	$(PIP) --no-deps $(TORCH_FROM) "$$(grep '^torch==' constraints.txt)"
	$(PIP) --editable .
	@touch $@

$(VENV)/.test $(VENV)/.lint: $(VENV)/.%: $(VENV)/.installed
	$(PIP) --group $*
	@touch $@
