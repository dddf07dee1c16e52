"""`/livez` and `/readyz`, for load balancers, systemd-less supervisors and people: readable lines, the HTTP status
is the verdict.
"""

from __future__ import annotations

from typing import NamedTuple

from rocinante.ports import NodeStatus
from rocinante.rest.context import RestContext
from rocinante.rest.http import Reply, Request, text_reply


class Check(NamedTuple):
    name: str
    ok: bool
    why: str
    detail: str = ""
    critical: bool = True


def get_livez(context: RestContext, request: Request) -> Reply:
    """The process answers and its node can be asked: 200."""
    verbose = request.query.flag("verbose")
    request.query.finish()
    status = context.node.status()
    return text_reply(f"[+]process ok: {status.name}, up {status.uptime_ms / 1000:.0f} s\nok\n" if verbose else "ok\n")


def get_readyz(context: RestContext, request: Request) -> Reply:
    """Whether this node can serve clients now: it is ready and knows a leader. Alarms are shown, and do not make it
    unready.
    """
    verbose = request.query.flag("verbose")
    request.query.finish()
    checks = _checks(context.node.status())
    ready = all(check.ok for check in checks if check.critical)
    lines = [_line(check, verbose) for check in checks]
    return text_reply("\n".join([*lines, "ready" if ready else "not ready"]) + "\n", 200 if ready else 503)


def _line(check: Check, verbose: bool) -> str:
    if check.ok:
        return f"[+]{check.name} ok" + (f": {check.detail}" if verbose and check.detail else "")
    return f"[{'-' if check.critical else '!'}]{check.name} {'failed' if check.critical else 'alarm'}: {check.why}"


def _checks(status: NodeStatus) -> list[Check]:
    leader = status.leader_member()
    connected = 1 + sum(peer.connected for peer in status.peers)
    return [
        Check(
            "node",
            status.role != "not_ready",
            status.not_ready_reason or "not ready",
            f"{status.role} in term {status.term}",
        ),
        Check("grpc", status.grpc_enabled, "switched off"),
        Check(
            "leader", leader is not None, "no leader is known", f"{leader.name} at {leader.endpoint}" if leader else ""
        ),
        Check(
            "peers",
            connected == 1 + len(status.peers),
            f"{connected} of {1 + len(status.peers)} nodes are connected",
            f"{connected} of {1 + len(status.peers)} nodes are connected",
            critical=False,
        ),
        Check("storage", not status.alarms, ", ".join(status.alarms), status.storage, critical=False),
    ]
