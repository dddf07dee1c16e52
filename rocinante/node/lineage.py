"""Which cluster a node without data belongs to: the one that runs under its YAML, or one that begins.

A restored cluster has an id of its own, made of the YAML's name and datacenter and of the word that the operator gave
(`lineage`, identity.py). It stands in the data directories that the restore made. A node that comes without one, new
or wiped, learns it from the others of its YAML before it makes its directory; and it waits for the leader's snapshot
then, for what a restored cluster began with is not nothing.
"""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import NamedTuple

from rocinante import limits
from rocinante.config import ClusterConfig, Controller
from rocinante.identity import endpoint, format_id
from rocinante.storage import DirectoryUnavailableError
from rocinante.tokens import bearer

logger = logging.getLogger(__name__)


class Told(NamedTuple):
    """What one of the others says of its cluster."""

    name: str
    lineage: str


def lineage_of_the_others(config: ClusterConfig, own: Controller, token: str) -> str:
    """The lineage of the cluster that runs; "" where none does, or where it began empty. `token`: what this node
    presents.

    Raises DirectoryUnavailableError when the others do not agree: nodes from before a restore run beside
    those from after it; and when one does not let this node in: what it would have told is not known, and a directory
    that is begun with another lineage is of no use afterwards.
    """
    others = [controller for controller in config.controllers if controller.id != own.id]
    if not others:
        return ""
    with ThreadPoolExecutor(max_workers=len(others), thread_name_prefix="lineage") as pool:
        told = [answer for answer in pool.map(lambda other: _ask(config, other, token), others) if answer]
    lineages = {answer.lineage for answer in told}
    if len(lineages) > 1:
        raise DirectoryUnavailableError(_disagreement(told))
    lineage = lineages.pop() if lineages else ""
    if lineage:
        logger.info("%s runs, restored as %r: this node, which has no data, joins it", config.name, lineage)
    return lineage


def _ask(config: ClusterConfig, other: Controller, token: str) -> Told | None:
    """None where nobody answers, or somebody of another cluster: consensus refuses them later, with a reason."""
    connection = http.client.HTTPConnection(other.address, other.rest, timeout=limits.LINEAGE_TIMEOUT_S)
    try:
        connection.request("GET", "/v1/status", headers=bearer(token))
        answer = connection.getresponse()
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise DirectoryUnavailableError(
                f"this node has no data, and {other.name} ({endpoint(other.address, other.rest)}) does not accept its"
                " access token, so that it cannot learn which cluster runs: compare the files of auth.tokenFile"
            )
        status = json.loads(answer.read(limits.LINEAGE_ANSWER_BYTES_MAX))
        lineage = status.get("lineage", "")
        if isinstance(lineage, str) and status.get("cluster_id") == format_id(config.cluster_id(lineage)):
            return Told(other.name, lineage)
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        pass
    finally:
        connection.close()
    return None


def _disagreement(told: Sequence[Told]) -> str:
    said = ", ".join(
        f"{answer.name} " + (f"was restored as {answer.lineage!r}" if answer.lineage else "was not restored")
        for answer in told
    )
    return (
        f"this node has no data, and the others are of different clusters ({said}): stop those from before the restore "
        "and move their data directories away"
    )
