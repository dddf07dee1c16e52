"""The keys of a benchmark: put before the gets, removed afterwards. All errors are those of `rocinante.client`."""

from __future__ import annotations

import os

from rocinante import limits
from rocinante.bench.plan import Plan
from rocinante.client import Client
from rocinante.client.txn import put


def fill(client: Client, plan: Plan) -> None:
    """Put every key once, so that every get has something to find."""
    value = os.urandom(plan.value_bytes)
    fitting = limits.REQUEST_BYTES_MAX // 2 // (plan.key_bytes + plan.value_bytes)
    at_once = min(limits.TXN_OPERATIONS_MAX, max(1, fitting))
    for first in range(0, plan.keys, at_once):
        numbers = range(first, min(plan.keys, first + at_once))
        client.kv.txn().then(*(put(plan.key(number), value) for number in numbers)).commit()


def clear(client: Client, plan: Plan) -> int:
    """Delete the keys of the plan; how many there were."""
    return client.kv.delete(plan.prefix, prefix=True).deleted
