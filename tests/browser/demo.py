"""A node for the page's tests: a LocalNode with two peers whose state the test chooses, keys, and flows.

`python -m tests.browser.demo [PORT]` serves it for looking at, with writes going on.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from rocinante.flows import Backend, FlowFlag, FlowRecord, FlowTuple, TcpState, encode_batch
from rocinante.identity import server_id
from rocinante.pb.etcd import rpc_pb2
from rocinante.ports import Member, NodeStatus, PeerView
from rocinante.rest import RestServer
from rocinante.state.command import Kind
from tests.support.local_node import LocalNode

WWW = Path(__file__).resolve().parents[2] / "www"
HOSTILE = '<img src=x onerror="window.pwned=1">\'"&amp;/../..?#%00'
FLOWS = 180


class DemoNode(LocalNode):
    """node1 of three. `away` holds the names of peers that are cut off."""

    def __init__(self, *, peers: int = 2, storage: str = "leveldb") -> None:
        super().__init__()
        self.away: set[str] = set()
        self.storage = storage
        for number in range(2, peers + 2):
            port = 35000 + number
            member = Member(server_id("127.0.0.1", port), f"node{number}", "127.0.0.1", port, 8000 + number)
            self.add_member(member, voter=True).result(30)
        self.put("config/balancer", b'{"algorithm": "least-connections"}')

    def status(self) -> NodeStatus:
        status = super().status()
        return replace(status, storage=self.storage, log_bytes=48_213_004, peers=tuple(map(self._peer, status.peers)))

    def _peer(self, peer: PeerView) -> PeerView:
        index = self.state_machine.position.index
        if peer.member.name in self.away:
            return replace(
                peer,
                connected=False,
                heard_ms=41_000,
                role="follower",
                term=self.term,
                commit=index // 2,
                lag=index // 2,
            )
        role = "leader" if peer.member.id == self.leader else "follower"
        return replace(
            peer, role=role, term=self.term, commit=index, applied=index - 1, lag=1, heard_ms=120, version="0.1.0"
        )

    def put(self, key: str | bytes, value: bytes) -> None:
        raw = key.encode() if isinstance(key, str) else key
        body = rpc_pb2.PutRequest(key=raw, value=value).SerializeToString()
        self.propose(Kind.KV_PUT, body).result(30)

    def put_flows(self, records: list[FlowRecord]) -> None:
        for future in [self.propose(Kind.FLOW_PUT, b"\x03dc1" + batch) for batch in encode_batch(records)]:
            future.result(30)


def make_flows(count: int, seed: int = 1) -> list[FlowRecord]:
    dice = random.Random(seed)
    now_ms = int(time.time() * 1000)
    flows = []
    for number in range(count):
        is_tcp = dice.random() < 0.8
        flow = FlowRecord(
            FlowTuple.from_text(
                "tcp" if is_tcp else "udp",
                f"10.{number % 4}.{number // 250}.{number % 250 + 1}:{32768 + number}",
                f"198.51.100.{dice.randint(1, 20)}:{dice.choice((443, 80, 53, 5432))}",
            ),
            tcp_state=TcpState(dice.choice((1, 3, 3, 3, 3, 4, 7))) if is_tcp else TcpState.NONE,
            flags=FlowFlag.SEEN_REPLY | FlowFlag.ASSURED,
            deadline_ms=now_ms + dice.randint(1_800_000, 7_200_000),
            updated_ms=now_ms - dice.randint(0, 5000),
            backend=Backend(bytes((10, 9, 0, dice.randint(1, 6))), 8443),
            packets_original=dice.randint(1, 40_000),
            bytes_original=dice.randint(60, 90_000_000),
            packets_reply=dice.randint(1, 60_000),
            bytes_reply=dice.randint(60, 900_000_000),
        )
        if number % 30 == 7:
            flow.original = FlowTuple.from_text("tcp", f"[2001:db8::{number:x}]:40000", "[2001:db8:ffff::1]:443")
        if number % 45 == 9:
            flow.backend_name = f"{HOSTILE[:60]} {number}"
        flows.append(flow)
    return flows


def fill(node: DemoNode) -> None:
    node.put_flows(make_flows(FLOWS))
    for number in range(60):
        node.put(f"services/web/{number:03}/weight", str(number).encode())
    node.put("services/api/limits", b"rate: 200\nburst: 50\n")
    node.put("motd", b"Don Quijote cabalga de nuevo\n")
    node.put(HOSTILE, HOSTILE.encode())
    node.put(b"\xff\xfe binary", bytes(range(256)))


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8001
    with DemoNode(storage=sys.argv[2] if len(sys.argv) > 2 else "leveldb") as node:
        fill(node)
        server = RestServer(node, host="127.0.0.1", port=port, wwwroot=WWW)
        server.start()
        sys.stdout.write(f"http://127.0.0.1:{server.port}/\n")
        sys.stdout.flush()
        dice, stop = random.Random(2), threading.Event()
        try:
            while not stop.wait(0.11):
                node.put_flows(make_flows(dice.randint(50, 900), seed=dice.randint(1, 9)))
                for _ in range(dice.randint(0, 4)):
                    node.put(f"services/web/{dice.randint(0, 59):03}/weight", str(dice.random()).encode())
        except KeyboardInterrupt:
            server.stop()


if __name__ == "__main__":
    main()
