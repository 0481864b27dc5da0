# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
DEMO := runs/demo
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(BIN)/python train.py --preset demo --out $(DEMO) $(if $(wildcard $(DEMO)/config.json),--resume)
	$(BIN)/python visualize.py --run $(DEMO)
	@printf '\nDone. Open:\n'
	@printf '  %s\n' $(DEMO)/report.html $(DEMO)/figures/local_probabilities_test_0.png \
	  $(DEMO)/figures/masks_test_0.png $(DEMO)/figures/mean_masks.png \
	  $(DEMO)/figures/reconstruction.png $(DEMO)/evaluation.json
	@printf 'The model for TensorFlow Serving is in %s\n' $(DEMO)/export

test: lint
	$(BIN)/pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it by make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV)
