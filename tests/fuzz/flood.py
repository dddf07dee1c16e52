"""`python -m tests.fuzz.flood ENDPOINT COUNT`: opens so many watches of all keys, says so, and reads none of them.

A process of its own, so that its end is certain: it is killed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import grpc

from rocinante.pb.etcd import rpc_pb2

CHANNELS = 4


def main(endpoint: str, count: int) -> None:
    watch = rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=b"\0", range_end=b"\0"))
    never = threading.Event()

    def requests() -> Iterator[bytes]:
        yield watch.SerializeToString()
        never.wait()

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(endpoint, options=options) for _ in range(CHANNELS)]
    calls = [channels[at % CHANNELS].stream_stream("/etcdserverpb.Watch/Watch")(requests()) for at in range(count)]
    for call in calls:
        next(call)  # it is open
    print(len(calls), flush=True)
    never.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
