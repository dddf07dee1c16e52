# Rocinante on a developer's machine: `make` alone says what there is. Needs python3 (3.11 or later), make and git; the rest it sets up itself.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
BOOTSTRAP := packaging/bootstrap.sh
# make test ARGS="-k lease -x", make run ARGS="--nodes 5"
ARGS ?=
# Two files of tests at a time, in their order; `make test PARALLEL=` for one (a debugger, -s)
PARALLEL ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder
SCENARIO ?=
# make simulate SEEDS=50000 (1 to that) or SEEDS=7-9, ARGS="--record FILE" to stop it and go on later
SEEDS ?= 500
# make fuzz SECONDS=600, of each decoder
SECONDS ?= 60
PYTHON_FILES := rocinante tests setup.py packaging

.PHONY: help run test verify format lock proto wheel package systemd-test bench bench-flows bench-goals chaos simulate simulate-coverage faults fuzz mutations conformance soak molecule clean distclean setup setup-dev

help: ## what there is (this list)
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS=$$'\t' read -r name text; \
		do printf '  make %-11s %s\n' "$$name" "$$text"; done

run: setup ## three nodes on this machine, with its own connections in them; the page's address is shown
	@exec .venv/bin/rocinante dev --sniff $(ARGS)

test: setup-dev ## all tests, with what they need from apt when run as root (ARGS="-k name")
	@$(BOOTSTRAP) apt-test
	@$(PY) -m pytest $(PARALLEL) $(ARGS)

verify: setup-dev ## format, lint, strict types, generated code, lock, architecture
	$(PY) -m ruff format --check $(PYTHON_FILES)
	$(PY) -m ruff check $(PYTHON_FILES)
	$(PY) -m mypy --strict rocinante packaging tests/tools tests/support tests/node tests/chaos tests/simulation tests/linearizability tests/fuzz tests/faults tests/mutations tests/raft tests/hosts tests/ansible tests/systemd
	$(PY) -m tests.tools.generate_proto --check
	$(PY) -m tests.tools.check_lock
	$(PY) -m pytest -q -p no:cacheprovider tests/architecture

format: setup-dev ## bring the code into its format
	$(PY) -m ruff format $(PYTHON_FILES)
	$(PY) -m ruff check --fix $(PYTHON_FILES)

lock: setup ## resolve pyproject.toml into the lock files (ARGS=--upgrade: newest versions)
	packaging/lock.sh $(ARGS)

proto: setup-dev ## generate rocinante/pb from proto/
	$(PY) -m tests.tools.generate_proto

wheel: setup ## build the sdist, and from it the wheel, into dist/
	@rm -rf build
	$$(packaging/uv.sh) build --quiet --no-build-isolation --python $(PY) --out-dir dist
	@ls -l dist/*.tar.gz dist/*.whl

package: setup ## build the Debian package into dist/ (ARGS="--version 0.2.0": as that version, for tests of upgrades)
	@$(PY) packaging/deb/build.py $(ARGS)

systemd-test: setup-dev ## as root: the package's life, and the units on a real systemd host (minutes)
	@$(BOOTSTRAP) apt-test
	@$(BOOTSTRAP) apt lintian
	$(PY) -m pytest -p no:cacheprovider tests/packaging/life_of_package.py tests/systemd/on_a_host.py $(ARGS)

bench: setup-dev ## puts and reads per second of three nodes on this machine, and how they compare with etcd's
	@$(BOOTSTRAP) apt-test
	$(PY) -m tests.benchmarks.compare_etcd $(ARGS)

bench-flows: setup-dev ## flow records per second of three nodes, Redis and etcd, in turns (ARGS="--rounds 5"): about 6 minutes
	@$(BOOTSTRAP) apt-test
	$(PY) -m tests.benchmarks.compare $(ARGS)

bench-goals: setup-dev ## the goals of the flow engine, one row each: how far each is reached (ARGS="rate latency")
	@$(BOOTSTRAP) apt-test
	$(PY) -m tests.benchmarks.goals $(ARGS)

chaos: setup-dev ## two minutes of kill -9 on the leader under 8 writers: nothing acknowledged is lost, nothing is done twice
	$(PY) -m tests.chaos.kill_leader $(ARGS)

simulate: setup-dev ## a cluster's life from one integer, with everything that goes wrong, many times (SEEDS=500)
	nice $(PY) -m tests.simulation --seeds $(SEEDS) $(ARGS)

simulate-coverage: setup-dev ## which lines and branches of the core the simulated lives do not reach (SEEDS=500)
	nice $(PY) -m tests.simulation.reach --seeds $(SEEDS) $(ARGS)

mutations: setup-dev ## bugs that others shipped, put in one by one: who sees them (ARGS="--seeds 100 --only vote"); writes the table
	nice $(PY) -m tests.mutations $(ARGS)

conformance: setup-dev ## the golden files of the core, and which of its lines and branches they and its unit tests do not reach
	@rm -f .coverage.conformance
	COVERAGE_FILE=.coverage.conformance nice $(PY) -m coverage run --branch --source=rocinante/raft -m pytest -q -p no:cacheprovider tests/raft
	COVERAGE_FILE=.coverage.conformance $(PY) -m coverage report --show-missing --skip-covered --fail-under=100

faults: setup-dev ## as root: 100 rounds of kill -9, partitions, bad disks and the like under a recorded load (ARGS="--rounds 20")
	@$(BOOTSTRAP) apt-test
	$(PY) -m tests.faults $(ARGS)

fuzz: setup-dev ## hostile input for every decoder and interface: Hypothesis, schemathesis, then atheris (SECONDS=60 of each decoder)
	@$(PY) -m pip --quiet --disable-pip-version-check install --require-hashes --requirement requirements-fuzz.lock || echo "atheris cannot be installed here"
	ROCINANTE_FUZZ_FACTOR=$$(( $(SECONDS) / 6 + 1 )) nice $(PY) -m pytest -q -p no:cacheprovider --timeout 7200 tests/fuzz $(ARGS)
	nice $(PY) -m tests.fuzz --seconds $(SECONDS)

molecule: setup-dev ## as root: the Ansible collection on real systemd hosts, every scenario (SCENARIO="default upgrade", ARGS="--jobs 2")
	@$(BOOTSTRAP) apt-test
	@$(PY) -m pip --quiet --disable-pip-version-check install --require-hashes --requirement requirements-molecule.lock
	@$(MAKE) --no-print-directory package ARGS=
	$(PY) -m tests.hosts.scenarios $(SCENARIO) --package $$(ls -t dist/rocinante_*.deb | head -n 1) $(ARGS)

soak: setup-dev ## an hour's writes, faster: memory and disk stay flat
	$(PY) -m tests.benchmarks.soak $(ARGS)

clean: ## remove what was built, cached and left by `make run`
	rm -rf .molecule build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .rocinante .fuzz
	find rocinante tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## and the Python environment
	rm -rf .venv .deps

setup:
	@$(BOOTSTRAP) run

setup-dev:
	@$(BOOTSTRAP) dev
