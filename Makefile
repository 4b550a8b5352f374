# The two commands of the README are `make demo` and `make test`; each makes its environment if it is missing.
#
#   make test PYTHON=python3.12                  another interpreter (3.10 or newer)
#   make test LOCK=requirements/lowest.txt       the lowest supported dependencies (Python 3.10)
#   make test ARGS="-k table -x"                 more arguments for pytest

PYTHON ?= python3
LOCK ?= requirements/newest.txt
ARGS ?=
# models.py makes what the benchmarks measure.
BENCH ?= $(filter-out benchmarks/models.py,$(wildcard benchmarks/[a-z]*.py))

# A shell word that makes the environment on first use; its tools see this checkout's package, which is not installed.
ENV_PYTHON = env=$$(bash scripts/env.sh $(basename $(notdir $(LOCK))) $(LOCK) $(PYTHON)) && py=$$env/bin/python
export PYTHONPATH := $(CURDIR)/src

.DEFAULT_GOAL := help
.PHONY: help demo test test-real lint format docs bench wheel clean

help:  ## say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo:  ## the main job on the example model: int8 build, performance summary, accuracy, mapping report
	@$(ENV_PYTHON) && bash examples/demo.sh "$$py"

test:  ## all tests that need no vendor tool
	@$(ENV_PYTHON) && "$$py" -m pytest -n 2 -q --ignore=tests/real --ignore=tests/gpu $(ARGS)

test-real:  ## tests with the real vendor tools; installs hb_mapper and the TensorRT bindings first, elsewhere
	@$(ENV_PYTHON) && tool=$$(bash scripts/real_env.sh "$$py") && \
	bindings=$$(bash scripts/trt_bindings.sh "$$py") && bash scripts/real_sshd.sh && \
	PTQBRIDGE_HB_MAPPER=$$tool PTQBRIDGE_TRT_BINDINGS=$$bindings "$$py" -m pytest -n 2 --dist loadfile -q tests/real $(ARGS)

lint:  ## ruff, mypy, import-linter; all of them, even after a finding
	@$(ENV_PYTHON) || exit 1; status=0; \
	"$$py" -m ruff check . || status=1; \
	"$$py" -m ruff format --check . || status=1; \
	"$$py" -m mypy || status=1; \
	"$$py" -c 'from importlinter.cli import lint_imports_command as main; main()' --no-cache --no-logo || status=1; \
	exit $$status

format:  ## let ruff mend what it can
	@$(ENV_PYTHON) && "$$py" -m ruff check --fix . && "$$py" -m ruff format .

docs:  ## write the generated pages anew
	@$(ENV_PYTHON) && trap 'rm -f docs/*.md.new' EXIT && \
	"$$py" -m ptqbridge flags --format markdown > docs/options.md.new && \
	"$$py" -m ptqbridge flags --differences > docs/differences.md.new && \
	"$$py" -m ptqbridge flags --keys > docs/horizon-keys.md.new && \
	mv docs/horizon-keys.md.new docs/horizon-keys.md && \
	mv docs/options.md.new docs/options.md && mv docs/differences.md.new docs/differences.md

bench:  ## run every benchmark, or those of BENCH="benchmarks/x.py ..."
	@[ -n "$(BENCH)" ] || { echo "no benchmarks yet"; exit 0; }; $(ENV_PYTHON) && \
	for script in $(BENCH); do echo "== $$script"; "$$py" "$$script" $(ARGS) || exit $$?; done

wheel:  ## build sdist and wheel, install the wheel into a fresh environment, run it
	@$(ENV_PYTHON) && bash scripts/check_wheel.sh "$$py"

clean:  ## remove what tools left in the checkout (environments live elsewhere: see scripts/env.sh)
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache htmlcov .coverage
	find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
