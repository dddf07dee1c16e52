"""What `rocinante bench … -o json` prints, as JSON schemas: nothing is missing, nothing else is there."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
TEXT: Final[Schema] = {"type": "string", "minLength": 1}
BOOLEAN: Final[Schema] = {"type": "boolean"}
ENDPOINT: Final[Schema] = {"type": "string", "pattern": r"^127\.0\.0\.1:[0-9]+$"}
KIND: Final[Schema] = {"enum": ["ipv4", "ipv6", "variable"]}
ENCODING: Final[Schema] = {"enum": ["packed", "plain"]}


def members(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def several(items: Schema, least: int = 1) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


LATENCY: Final = members(p50_ms=NUMBER, p90_ms=NUMBER, p99_ms=NUMBER, p99_9_ms=NUMBER, max_ms=NUMBER, mean_ms=NUMBER)
ERRORS: Final[Schema] = {"type": "object", "additionalProperties": COUNT}
SHARES: Final = several(members(name=TEXT, cpu_share=NUMBER))
HEAD: Final[dict[str, Schema]] = {
    "version": TEXT,
    "own_cluster": BOOLEAN,
    "endpoints": several(ENDPOINT),
    "processors": COUNT,
    "load_average": NUMBER,
}
NODE: Final = members(
    name=TEXT,
    per_million=members(cpu_s=NUMBER, disk_bytes=NUMBER, log_bytes=NUMBER, sent_bytes=NUMBER),
    memory_bytes=COUNT,
    flows=COUNT,
    elections=COUNT,
    snapshots=COUNT,
)
STAGE: Final = members(
    kind=KIND,
    batch=COUNT,
    writers=COUNT,
    in_flight={"type": ["integer", "null"]},
    rate={"type": ["number", "null"]},
    updates=BOOLEAN,
    table=COUNT,
    seconds=NUMBER,
    batches=COUNT,
    records=COUNT,
    per_second=NUMBER,
    latency=LATENCY,
    errors=ERRORS,
    sent_late=COUNT,
    given_up=COUNT,
    encoding=ENCODING,
    record_bytes=members(packed=NUMBER, plain=NUMBER),
    client=members(cpu_s_per_million=NUMBER, sent_bytes_per_million=COUNT, batches_made_late=COUNT),
    leader=TEXT,
    nodes=several(NODE),
)


def document(benchmark: str, **properties: Schema) -> Schema:
    return members(benchmark={"const": benchmark}, **HEAD, **properties)


SCHEMAS: Final[dict[str, Schema]] = {
    "flows": document("flows", stages=several(STAGE)),
    "watch": document(
        "watch",
        kind=KIND,
        rate=NUMBER,
        batch=COUNT,
        table=COUNT,
        encoding=ENCODING,
        seconds=NUMBER,
        written_per_second=NUMBER,
        errors=ERRORS,
        nodes=SHARES,
        watchers=several(
            members(
                endpoint=ENDPOINT, per_second=NUMBER, lag=LATENCY, fell_behind=COUNT, to_the_end=BOOLEAN, cpu_s=NUMBER
            )
        ),
    ),
    "lookup": document(
        "lookup",
        kind=KIND,
        batch=COUNT,
        clients=COUNT,
        processes=COUNT,
        table=COUNT,
        misses_percent=COUNT,
        consistency={"enum": ["stale", "linearizable"]},
        seconds=NUMBER,
        lookups=COUNT,
        flows_per_second=NUMBER,
        latency=LATENCY,
        errors=ERRORS,
        client_cpu_s_per_million=NUMBER,
        nodes=SHARES,
        asked={"enum": ["follower", "leader", "all"]},
    ),
    "failover": document(
        "failover",
        kind=KIND,
        rate=NUMBER,
        batch=COUNT,
        table=COUNT,
        per_second=NUMBER,
        gap_median_s=NUMBER,
        gap_max_s=NUMBER,
        rejoin_gap_max_s=NUMBER,
        lost=COUNT,
        twice=COUNT,
        unseen=COUNT,
        puts_acknowledged=COUNT,
        puts_failed=COUNT,
        changes_seen=COUNT,
        watch_refusals=COUNT,
        retries=COUNT,
        latency=LATENCY,
        rounds=several(members(killed=TEXT, gap_s=NUMBER, rejoin_gap_s=NUMBER, rejoin_s=NUMBER)),
    ),
    "restart": document(
        "restart",
        kind=KIND,
        flows=COUNT,
        killed=BOOLEAN,
        ready_median_s=NUMBER,
        ready_max_s=NUMBER,
        memory_bytes_per_flow={"type": "number"},
        rounds=several(
            members(
                node=TEXT,
                flows=COUNT,
                stop_s=NUMBER,
                ready_s=NUMBER,
                caught_up_s=NUMBER,
                memory_bytes=COUNT,
                memory_bytes_per_flow={"type": "number"},
            )
        ),
    ),
    "snapshot": document(
        "snapshot",
        kind=KIND,
        flows=COUNT,
        rate=NUMBER,
        batch=COUNT,
        encoding=ENCODING,
        gap_max_s=NUMBER,
        gap_before_max_s=NUMBER,
        rounds=several(
            members(
                node=TEXT,
                flows=COUNT,
                bytes=COUNT,
                snapshot_s=NUMBER,
                gap_s=NUMBER,
                gap_before_s=NUMBER,
                during=LATENCY,
                before=LATENCY,
            )
        ),
    ),
}
