# Every target makes its own virtual environment first: nothing needs to be installed but Python 3.11 to 3.13, make,
# and a C++ compiler. `make PYTHON=python3.12 ...` chooses another Python.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TYPED := build/typecheck/saguaro

.PHONY: demo test lint kernels clean

demo: $(READY)
	$(BIN)/saguaro demo

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

# mypy does not know setuptools' package-dir: a tree of links shows it the packages under their installed names.
lint: $(READY)
	$(BIN)/ruff check
	rm -rf $(TYPED)
	mkdir -p $(TYPED)
	ln -s $(addprefix $(CURDIR)/,$(wildcard saguaro/*) engine models plugins builder runtime tuner) $(TYPED)
	MYPYPATH=build/typecheck $(BIN)/mypy -p saguaro

kernels: $(READY)
	$(BIN)/python -m saguaro.plugins.compile

# Leaves .venv, which takes minutes to fill again, and engines that are not the demo's.
clean:
	rm -rf build dist *.egg-info engines/demo engines/demo-tensorrt-rtx .pytest_cache .mypy_cache .ruff_cache

# torch comes first and pinned, so that the package's own torch>=... is met by the build that constraints.txt names.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
	    f"Saguaro needs Python 3.11 to 3.13, and $(PYTHON) is {sys.version.split()[0]}: try make PYTHON=python3.12")'
	@echo "Installing Saguaro and what it needs into .venv; the first time takes some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq -c constraints.txt torch
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[test,dev,tensorrt-rtx]'
	@touch $@
