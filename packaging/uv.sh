#!/usr/bin/env bash
# Prints the path of uv, which `make lock` and `make package` use; installs it into .deps the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.13.9
place="$PWD/.deps/uv-$version"
if ! [ -x "$place/bin/uv" ]; then
    rm -rf "$place"
    .venv/bin/python -m venv "$place.half"
    "$place.half/bin/python" -m pip --quiet --disable-pip-version-check install "uv==$version" >&2
    mv "$place.half" "$place" # uv is a program, which can be moved
fi
echo "$place/bin/uv"
