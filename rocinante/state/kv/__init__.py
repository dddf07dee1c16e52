"""The key-value store with etcd v3's semantics: its checks, its versions, its reads and writes."""

from __future__ import annotations

from rocinante.state.kv.check import check_compact, check_delete, check_put, check_range, check_txn, txn_is_readonly
from rocinante.state.kv.store import KvStore
from rocinante.state.kv.txn import check_chosen, choose, run
from rocinante.state.kv.view import PinnedView, View, read_range
from rocinante.state.kv.writer import KvWriter

__all__ = [
    "KvStore",
    "KvWriter",
    "PinnedView",
    "View",
    "check_chosen",
    "check_compact",
    "check_delete",
    "check_put",
    "check_range",
    "check_txn",
    "choose",
    "read_range",
    "run",
    "txn_is_readonly",
]
