"""`rocinante status`: every node as it sees itself; those that do not answer, as another sees them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import typer

from rocinante.cli.common import ClusterCommand, examples, first_answer, settings
from rocinante.cli.output import complain, duration, say, say_json, say_table, shown
from rocinante.cli.views import peer_json, status_json
from rocinante.errors import EXIT_UNAVAILABLE, RocinanteError
from rocinante.limits import CLIENT_TRY_TIMEOUT_S

if TYPE_CHECKING:
    from rocinante.client import Client, PeerStatus, Status

__all__ = ["app"]

app = typer.Typer()

_ASKED_AT_ONCE_MAX = 16
_COLUMNS = (
    "NODE ENDPOINT ROLE TERM COMMIT APPLIED LAG KEYS FLOWS STORAGE VERSION UP".split()  # noqa: SIM905 - as it looks
)
_NUMBERS = ("TERM", "COMMIT", "APPLIED", "LAG", "KEYS", "FLOWS")


@app.command(
    cls=ClusterCommand,
    epilog=examples(
        "rocinante status",
        "rocinante status --config /etc/rocinante/cluster.yaml",
        "rocinante status -o json -c 127.0.0.1:35001",
    ),
)
def status(ctx: typer.Context) -> None:
    """Show how the nodes are doing.

    Exit status 0 when a leader is known, 3 when none is or no node answers.
    """
    options = settings(ctx)
    with options.client() as client:
        _, seen = first_answer(client, options.endpoints())
        nodes = _ask_all(client, seen)
    leader = seen.leader or next((node.leader for node in nodes.values() if node is not None and node.leader), 0)
    if options.json:
        say_json(_as_json(seen, nodes))
    else:
        _print(seen, nodes)
    if not leader:
        complain(
            f"no leader is known to {seen.name}: a majority of the {len(nodes)} nodes must run and reach each other"
        )
        raise typer.Exit(EXIT_UNAVAILABLE)


def _ask_all(client: Client, seen: Status) -> dict[str, Status | None]:
    """Every member's own status by endpoint; None of those that did not answer."""

    def ask(endpoint: str) -> Status | None:
        try:
            return client.cluster.status(endpoint, timeout_s=CLIENT_TRY_TIMEOUT_S / 2)
        except RocinanteError:
            return None

    endpoints = [peer.endpoint for peer in seen.peers]
    with ThreadPoolExecutor(_ASKED_AT_ONCE_MAX, thread_name_prefix="status") as pool:
        answers = dict(zip(endpoints, pool.map(ask, endpoints), strict=True))
    return dict(sorted({seen.endpoint: seen, **answers}.items(), key=lambda item: _name(item[0], seen)))


def _name(endpoint: str, seen: Status) -> tuple[int, str]:
    name = seen.name if endpoint == seen.endpoint else next(p.name for p in seen.peers if p.endpoint == endpoint)
    return len(name), name


def _as_json(seen: Status, nodes: dict[str, Status | None]) -> dict[str, Any]:
    peers = {peer.endpoint: peer for peer in seen.peers}
    return {
        "cluster": seen.cluster,
        "datacenter": seen.datacenter,
        "leader": status_json(seen)["leader"],
        "leader_endpoint": seen.leader_endpoint or None,
        "term": seen.term,
        "asked": seen.endpoint,
        "nodes": [
            status_json(own) | {"answered": True}
            if own is not None
            else peer_json(peers[endpoint]) | {"answered": False}
            for endpoint, own in nodes.items()
        ],
    }


def _print(seen: Status, nodes: dict[str, Status | None]) -> None:
    answered = sum(own is not None for own in nodes.values())
    leader = next((n.name for n in nodes.values() if n is not None and n.id == seen.leader), seen.leader_endpoint)
    leads = f"{leader} leads in term {seen.term}" if seen.leader else "no leader"
    say(
        f"Cluster {shown(seen.cluster)} in {shown(seen.datacenter)}: {leads}, {answered} of {len(nodes)} nodes answered"
    )
    say("")
    peers = {peer.endpoint: peer for peer in seen.peers}
    head = max(own.commit for own in nodes.values() if own is not None)
    rows = [_own_row(own, head) if own is not None else _silent_row(peers[endpoint]) for endpoint, own in nodes.items()]
    say_table(_COLUMNS, rows, right=_NUMBERS, spare=("VERSION", "STORAGE", "UP", "KEYS", "FLOWS"))
    for own in nodes.values():
        if own is not None:
            for alarm in own.alarms:
                say(f"ALARM {own.name}: {shown(alarm)}")


def _own_row(own: Status, head: int) -> list[Any]:
    role = f"not ready: {shown(own.not_ready_reason)}" if own.role == "not_ready" else own.role
    lag = max(0, head - own.applied)
    counters = [own.term, own.commit, own.applied, lag, own.keys, own.flows]
    return [shown(own.name), own.endpoint, role, *counters, own.storage, own.version, duration(own.uptime_ms)]


def _silent_row(peer: PeerStatus) -> list[Any]:
    heard = "heard of" if peer.connected else "no answer"
    role = f"{heard}, last {duration(peer.heard_ms)} ago" if peer.heard_ms >= 0 else "no answer"
    return [
        shown(peer.name),
        peer.endpoint,
        role,
        peer.term,
        peer.commit,
        peer.applied,
        peer.lag,
        "-",
        "-",
        "-",
        "-",
        "-",
    ]
