"""Generate `rocinante/pb` from `proto/`: `python -m tests.tools.generate_proto [--check]`.

The output of protoc is changed in two ways: the modules live in the package `rocinante.pb`, and their descriptors in
a pool of their own (`rocinante/pb/pool.py` says why). `--check` writes nothing and fails when what is committed is
not what would be generated.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
OUT = ROOT / "rocinante" / "pb"


def _package_imports(text: str) -> str:
    """`from etcd import kv_pb2` → `from rocinante.pb.etcd import kv_pb2` (our own packages only)."""
    text = re.sub(r"^from (etcd|rocinante\.v1) import", r"from rocinante.pb.\1 import", text, flags=re.M)
    return text.replace("rocinante.pb.rocinante.v1", "rocinante.pb.v1")


def _own_pool(text: str) -> str:
    text = text.replace("_descriptor_pool.Default()", "_pool.POOL")
    return text.replace(
        "from google.protobuf import descriptor_pool as _descriptor_pool", "from rocinante.pb import pool as _pool"
    )


def generate(out: Path) -> dict[Path, str]:
    """Run protoc into a temporary directory; the files, by their path below `out`, as they should be."""
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    include = str(Path(grpc_tools.__file__).parent / "_proto")
    files: dict[Path, str] = {}
    with tempfile.TemporaryDirectory() as tmp:
        arguments = ["protoc", f"-I{PROTO}", f"-I{include}", f"--python_out={tmp}", f"--pyi_out={tmp}", *sources]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed")
        for path in sorted(Path(tmp).rglob("*.py*")):
            relative = str(path.relative_to(tmp)).replace("rocinante/v1/", "v1/")
            files[out / relative] = _own_pool(_package_imports(path.read_text()))
    for package in {path.parent for path in files}:
        files[package / "__init__.py"] = ""
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the committed files are current")
    check = parser.parse_args().check
    stale = []
    for path, text in generate(OUT).items():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if check and stale:
        print("not current, run `make proto`:", *stale, sep="\n  ", file=sys.stderr)
        return 1
    print(f"{len(stale)} file(s) {'stale' if check else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
