"""A process that writes a log as fast as it can and says on its standard output what was acknowledged, to be killed.

    python -m tests.storage.writer DIRECTORY TERM SEED

Each line is `first last` of entries of TERM, printed after `persist` returned. The first write of a run may replace a
suffix; every few writes it takes a snapshot and compacts.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from rocinante.raft.types import Entry, EntryKind, HardState
from rocinante.storage import Write, open_leveldb
from tests.storage.tools import ME, meta, snapshot

COMPACT_EVERY = 40
KEEP = 30


def data(index: int, term: int) -> bytes:
    """What entry `index` of `term` holds: of a length that varies, so that records fall across LevelDB's blocks."""
    return b"%d/%d " % (index, term) * (1 + (index * 7919 + term) % 200)


def main() -> None:
    path, term, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    choose = random.Random(seed)
    engine = open_leveldb(path, ME)
    found = engine.log.load()
    last = found.entries[-1].index if found.entries else found.snapshot.index
    commit = found.hard_state.commit
    start = choose.randint(commit + 1, last + 1)
    for number in range(1, 1_000_000):
        count = choose.randint(1, 20)
        batch = [Entry(i, term, EntryKind.NORMAL, data(i, term)) for i in range(start, start + count)]
        commit = max(commit, start - 5) if number > 1 else commit
        engine.log.persist([Write(HardState(term, 1, commit), batch)])
        os.write(1, b"%d %d\n" % (start, start + count - 1))
        start += count
        if number % COMPACT_EVERY == 0:
            at = commit
            snapshot(engine, at, b"state at %d" % at, term)
            engine.log.compact(meta(at, term), max(at - KEEP, 1))
            engine.snapshots.prune(2)


if __name__ == "__main__":
    main()
