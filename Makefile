# make demo     the main job, end to end, on an embedded database with a local stand-in for the provider
# make test     everything that is tested
# make bench    what it costs, side by side with LiteLLM without it: about 40 minutes; with QUICK=1 a first look in a few;
#               with CALLS=10000000 its database is filled with ten million calls, not one
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

export LITELLM_LOCAL_MODEL_COST_MAP ?= True

.PHONY: demo run test lint schema schema-check endings torture crash bench lock clean

demo: $(VENV)/runtime
	@$(BIN)/litellm-credits demo

run: $(VENV)/runtime
	@$(BIN)/litellm-credits run

test: $(VENV)/development
	@for tool in pgbouncer curl redis-server; do command -v $$tool >/dev/null || sh scripts/packages.sh $$tool; done
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs.py check

schema: $(VENV)/development
	$(BIN)/python scripts/schema.py write $(NAME)

schema-check: $(VENV)/development
	$(BIN)/python scripts/schema.py check

endings: $(VENV)/development
	$(BIN)/python -m pytest tests/proxy/test_endings.py tests/proxy/test_hard_endings.py --endings -q

torture: $(VENV)/development
	CREDITS_TORTURE_OPERATIONS=1000000 CREDITS_TORTURE_EXAMPLES=400 $(BIN)/python -m pytest tests/torture -s --timeout 3600

crash: $(VENV)/development
	$(BIN)/python -m tests.crash.loop --rounds 200

bench: $(VENV)/development
	$(BIN)/python -W ignore -m bench $(if $(QUICK),--quick) $(if $(CALLS),--calls $(CALLS))

# The locks carry names, versions and hashes, no addresses.
lock: $(VENV)/development
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header -o requirements.lock
	$(BIN)/uv pip compile --quiet pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header -c requirements.lock -o requirements-dev.lock

$(VENV)/runtime: requirements.lock pyproject.toml
	@$(PYTHON) scripts/install.py $(VENV) requirements.lock
	@touch $@

$(VENV)/development: requirements-dev.lock $(VENV)/runtime
	@$(PYTHON) scripts/install.py $(VENV) requirements-dev.lock
	@touch $@

clean:
	rm -rf $(VENV) .credits build dist
