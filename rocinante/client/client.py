"""The Python client over gRPC.

    with Client("127.0.0.1:35001") as client:
        client.kv.put("greeting", "hello")
        print(client.kv.get("greeting").value)
        client.flows.put([record])

Contract: one `Client` may be used by any number of threads. It finds the other members from any one node, asks the
leader where it knows it, and makes a call again, on another node where need be, until its time is up. Writes are named
(client/session.py), so that one which is sent again, over a change of leader too, is carried out once. Every method
raises the errors of `rocinante.errors` and nothing else; the two that matter are Unavailable (certainly not done) and
OutcomeUnknown (time was up first: it may have been done).
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from rocinante.client.admin import Admin
from rocinante.client.cluster import ClusterClient
from rocinante.client.connection import Connection
from rocinante.client.flows import Flows
from rocinante.client.kv import Kv
from rocinante.limits import CLIENT_TIMEOUT_S, CLIENT_TRY_TIMEOUT_S
from rocinante.tokens import own_token

__all__ = ["Client"]


class Client:
    """A connection to a cluster.

    `endpoints`: HOST:PORT of one or more nodes (gRPC ports), as a list or separated by commas. `timeout_s`: a whole
    call with all its tries, where the method is given no other. `try_timeout_s`: after what time without an answer
    another node is asked. `discover`: use the addresses that the cluster gives for its members; off, only `endpoints`
    are used (behind a proxy or address translation). `token`: the access token that it presents; None: that of the
    environment (ROCINANTE_TOKEN), if it has one. Nothing is sent before the first call.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str],
        *,
        timeout_s: float = CLIENT_TIMEOUT_S,
        try_timeout_s: float = CLIENT_TRY_TIMEOUT_S,
        discover: bool = True,
        token: str | None = None,
    ) -> None:
        self._connection = Connection(
            endpoints,
            timeout_s=timeout_s,
            try_timeout_s=try_timeout_s,
            discover=discover,
            token=own_token(token),
        )
        self.kv = Kv(self._connection)
        self.flows = Flows(self._connection)
        self.cluster = ClusterClient(self._connection)
        self.admin = Admin(self._connection)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All nodes that are known, those that were given first."""
        return self._connection.router.endpoints

    @property
    def leader(self) -> str:
        """Where the leader was last seen, as HOST:PORT; "" when not known."""
        return self._connection.router.leader

    def close(self) -> None:
        """End the session on the cluster (waits half a second at most), close the connections. Calls under way fail.
        May be repeated."""
        self._connection.close()
