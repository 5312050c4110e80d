# Two commands do everything from a fresh machine with Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
JOBS   ?= 3

.PHONY: demo test check format docs screenshots bench bench-heart soak clean help rabbitmq prometheus chromium

help:           ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(VENV)/.demo rabbitmq  ## four hospitals train one model; ARGS="--out DIR --rounds 15"
	@$(BIN)/warren demo $(ARGS)

test: $(VENV)/.test rabbitmq prometheus chromium  ## run the whole suite side by side; ARGS="-k pattern", JOBS=2
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: $(VENV)/.test  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.demo  ## write the pages of docs/reference that follow from the code
	@$(BIN)/warren docs docs/reference

screenshots: $(VENV)/.test rabbitmq prometheus chromium  ## take the pictures of docs/images from real runs and pages
	@$(BIN)/python -m tests.support.screenshots docs/images
	@WARREN_SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/e2e/test_gui_story.py

bench: $(VENV)/.test rabbitmq  ## measure speed, CPU and memory; ARGS="--json FILE"
	@$(BIN)/python -m tests.benchmarks $(ARGS)

bench-heart: $(VENV)/.test rabbitmq  ## what FedAvg, FedProx, FedAdam and others reach on the heart data, next to what was published
	@$(BIN)/python -m tests.benchmarks heart $(ARGS)

soak: $(VENV)/.test rabbitmq  ## kill 500 processes and see that every model stays the same; ARGS="--kills N --seed S"
	@$(BIN)/python -m tests.faults.soak $(ARGS)

rabbitmq:  # installs the server program; never starts or touches a broker of the system
	@deploy/host/install_package.sh RabbitMQ rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server 3.10

prometheus:  # likewise; the tests read real metrics with it
	@deploy/host/install_package.sh Prometheus prometheus promtool 2.40

chromium:  # likewise; the tests look at the web page with it
	@deploy/host/install_package.sh Chromium chromium chromium 120

$(VENV)/.venv: 
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Warren needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sklearn,zstd]'
	@touch $@

$(VENV)/.test: $(VENV)/.venv pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sklearn,zstd,test,check]'
	@touch $(VENV)/.demo $@

clean:          ## remove everything that was made here
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
