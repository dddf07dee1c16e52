#!/usr/bin/env bash
# Resolve pyproject.toml into requirements.lock (the software), requirements-dev.lock (and its tests), requirements-fuzz.lock and
# requirements-molecule.lock (what only `make fuzz` and `make molecule` have besides): versions and hashes for Python 3.11
# and later on Linux. Extra arguments go to `uv pip compile`: `--upgrade`, or `--upgrade-package grpcio`.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(packaging/uv.sh)
compile=("$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes
    --no-emit-index-url --no-emit-find-links --no-header --group build pyproject.toml)
"${compile[@]}" --output-file requirements.lock "$@"
"${compile[@]}" --group dev --constraint requirements.lock --output-file requirements-dev.lock "$@"
"${compile[@]}" --group molecule --constraint requirements-dev.lock --output-file requirements-molecule.lock "$@"
"${compile[@]}" --group fuzz --constraint requirements.lock --output-file requirements-fuzz.lock "$@"
# A restriction to Linux on every line says nothing: there is no other platform here.
sed -i "s/ ; sys_platform == 'linux'//; s/ and sys_platform == 'linux'//" requirements.lock requirements-dev.lock requirements-fuzz.lock requirements-molecule.lock
.venv/bin/python -m tests.tools.check_lock
