"""The server itself: binding, the gate, sizes, health, reflection, counting, many calls at once, the end."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from rocinante import limits
from rocinante.pb.etcd import rpc_pb2 as pb
from rocinante.pb.v1 import cluster_pb2
from rocinante.services.server import GRPC_LOGGER, SERVICES, GrpcServer
from rocinante.tokens import bearer
from tests.services.wire import WAIT_S, Wire, failure
from tests.support.keyrings import OLD, ChangesInBetween
from tests.support.local_node import LocalNode

Serve = Callable[..., GrpcServer]
PUT, RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"
CHECK, HEALTH_WATCH, HEALTH_LIST = (f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch", "List"))
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def health_of(wire: Wire, service: str = "") -> Any:
    return wire.call(CHECK, health_pb2.HealthCheckRequest(service=service), health_pb2.HealthCheckResponse).status


# --- start and stop


def test_a_taken_port_is_one_clear_line(node: LocalNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = GrpcServer(node, host="127.0.0.1", port=port)
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use") as caught:
            server.start()
    assert "\n" not in str(caught.value)
    assert "grpc" not in [thread.name for thread in threading.enumerate()]


def test_two_servers_never_share_a_port(node: LocalNode, server: GrpcServer) -> None:
    with pytest.raises(OSError, match="cannot listen on"):
        GrpcServer(node, host="127.0.0.1", port=server.port).start()


def test_an_address_that_is_not_of_this_host(node: LocalNode) -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:35999: Cannot assign requested address"):
        GrpcServer(node, host="192.0.2.1", port=35999).start()


def test_it_listens_on_ipv6(node: LocalNode) -> None:
    server = GrpcServer(node, host="::1", port=0)
    server.start()
    wire = Wire(f"[::1]:{server.port}")
    try:
        assert health_of(wire) == NOT_SERVING
    finally:
        wire.close()
        server.stop(0)


def test_stop_leaves_neither_thread_nor_port_and_ends_what_waits(node: LocalNode) -> None:
    server = GrpcServer(node, host="127.0.0.1", port=0)
    server.start()
    server.set_serving(True)
    assert "grpc" in [thread.name for thread in threading.enumerate()]
    assert server.loop.is_running()
    wire = Wire(f"127.0.0.1:{server.port}")
    node.be_slow()
    waiting = wire.future(PUT, pb.PutRequest(key=b"k"), pb.PutResponse)
    stopped = threading.Event()

    def requests() -> Iterator[pb.WatchRequest]:
        yield watch_request()
        stopped.wait(WAIT_S)  # a client that closes its side ends the watch itself

    watching = wire.duplex("/etcdserverpb.Watch/Watch", requests(), pb.WatchResponse)
    assert next(watching).created
    server.stop(0.2)
    server.stop(0.2)
    assert waiting.exception(timeout=WAIT_S) is not None
    with pytest.raises(grpc.RpcError) as caught:
        next(watching)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    stopped.set()
    wire.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("grpc")]
    with socket.create_server(("127.0.0.1", server.port)):
        pass


def watch_request() -> pb.WatchRequest:
    return pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k"))


# --- the gate


def test_a_server_starts_closed_and_says_so(node: LocalNode) -> None:
    server = GrpcServer(node, host="127.0.0.1", port=0)
    server.start()
    wire = Wire(f"127.0.0.1:{server.port}")
    try:
        assert wire.fail(PUT, pb.PutRequest(key=b"k"))[:2] == ("UNAVAILABLE", "not ready: starting")
        assert health_of(wire) == NOT_SERVING
        server.set_serving(True)
        wire.call(PUT, pb.PutRequest(key=b"k"), pb.PutResponse)
        assert health_of(wire) == SERVING
        assert [health_of(wire, name) for name in SERVICES] == [SERVING] * len(SERVICES)
    finally:
        wire.close()
        server.stop(0)


def test_closing_the_gate_refuses_calls_and_ends_streams(wire: Wire, server: GrpcServer, node: LocalNode) -> None:
    more = threading.Event()

    def requests() -> Iterator[pb.WatchRequest]:
        yield watch_request()
        more.wait(WAIT_S)

    watching = wire.duplex("/etcdserverpb.Watch/Watch", requests(), pb.WatchResponse)
    assert next(watching).created
    server.set_serving(False, "gRPC is switched off")
    with pytest.raises(grpc.RpcError) as caught:
        next(watching)
    more.set()
    assert failure(caught.value)[:2] == ("UNAVAILABLE", "not ready: gRPC is switched off")
    for path in (PUT, RANGE, "/rocinante.v1.Cluster/Status", "/rocinante.v1.Flow/Watch", "/no.Such/Method"):
        refused = wire.fail(path, b"")
        assert refused[:2] == ("UNAVAILABLE", "not ready: gRPC is switched off")
        assert refused.trailing["rocinante-leader"] == node.member.endpoint
    assert node.watchers == 0
    server.set_serving(True)
    wire.call(PUT, pb.PutRequest(key=b"k"), pb.PutResponse)
    assert server.metrics()["grpc_requests_refused_not_ready_total"] == 5


def test_a_stream_whose_token_is_taken_away_while_it_begins_is_ended(node: LocalNode, serve: Serve) -> None:
    keyring = ChangesInBetween()
    wire = Wire(f"127.0.0.1:{serve(node, keyring=keyring).port}")
    metadata = tuple(bearer(OLD).items())
    watching = wire.duplex("/etcdserverpb.Watch/Watch", iter([watch_request()]), pb.WatchResponse, metadata=metadata)
    with pytest.raises(grpc.RpcError) as caught:
        next(watching)
    wire.close()
    assert failure(caught.value)[:2] == ("UNAVAILABLE", "the access tokens have changed")
    assert keyring.asked == 2
    assert node.watchers == 0


def test_health_watch_follows_the_gate(wire: Wire, server: GrpcServer) -> None:
    watching = wire.stream(
        HEALTH_WATCH, health_pb2.HealthCheckRequest(service="etcdserverpb.KV"), health_pb2.HealthCheckResponse
    )
    assert next(watching).status == SERVING
    server.set_serving(False, "draining")
    assert next(watching).status == NOT_SERVING
    server.set_serving(True)
    assert next(watching).status == SERVING
    watching.cancel()


def test_health_of_an_unknown_service_and_of_all(wire: Wire) -> None:
    assert wire.fail(CHECK, health_pb2.HealthCheckRequest(service="no.Such")).code == "NOT_FOUND"
    listed = wire.call(HEALTH_LIST, health_pb2.HealthListRequest(), health_pb2.HealthListResponse)
    assert {name: answer.status for name, answer in listed.statuses.items()} == dict.fromkeys(("", *SERVICES), SERVING)


# --- extra handlers (the peers')


async def _echo_all(requests: Any, context: Any) -> bytes:
    return b"".join([request async for request in requests])


def peer_handler() -> Any:
    return grpc.method_handlers_generic_handler(
        "test.Peer", {"Exchange": grpc.stream_unary_rpc_method_handler(_echo_all)}
    )


def test_extra_handlers_run_on_the_same_loop_and_behind_the_same_gate(node: LocalNode, serve: Serve) -> None:
    server = serve(node, extra_handlers=[peer_handler()])
    wire = Wire(f"127.0.0.1:{server.port}")
    exchange = wire.channel.stream_unary("/test.Peer/Exchange", bytes, bytes)
    assert exchange(iter([b"a", b"b"]), timeout=WAIT_S) == b"ab"

    begun, go_on = threading.Event(), threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"a"
        begun.set()
        go_on.wait(WAIT_S)

    running = exchange.future(requests(), timeout=WAIT_S)
    assert begun.wait(WAIT_S)
    assert health_of(wire) == SERVING  # the server has seen what came before this
    server.set_serving(False, "switched off")
    assert failure(running.exception(timeout=WAIT_S))[:2] == ("UNAVAILABLE", "not ready: switched off")
    go_on.set()
    with pytest.raises(grpc.RpcError) as caught:
        exchange(iter([b"a"]), timeout=WAIT_S)
    assert failure(caught.value)[:2] == ("UNAVAILABLE", "not ready: switched off")
    wire.close()


# --- sizes and bounds


def test_an_oversized_message_is_refused_and_the_connection_lives(wire: Wire, node: LocalNode) -> None:
    refused = wire.fail(PUT, bytes(limits.GRPC_MESSAGE_BYTES_MAX + 1))
    assert refused.code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in refused.text
    assert node.state.keys_count() == 0
    wire.call(PUT, pb.PutRequest(key=b"k"), pb.PutResponse)


def test_oversized_metadata_is_refused(wire: Wire) -> None:
    refused = wire.fail(PUT, pb.PutRequest(key=b"k"), metadata=[("x", "y" * 4 * limits.GRPC_METADATA_BYTES_MAX)])
    assert refused.code in ("RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE")
    wire.call(PUT, pb.PutRequest(key=b"k"), pb.PutResponse)


def test_more_calls_than_the_bound_are_refused_at_once(node: LocalNode, serve: Serve) -> None:
    server = serve(node, concurrent_rpcs_max=3)
    wire = Wire(f"127.0.0.1:{server.port}")
    node.be_slow()
    finished = threading.Semaphore(0)
    calls = [wire.future(PUT, pb.PutRequest(key=b"k"), pb.PutResponse) for _ in range(5)]
    for call in calls:
        call.add_done_callback(lambda _: finished.release())
    assert finished.acquire(timeout=WAIT_S)
    assert finished.acquire(timeout=WAIT_S)
    assert [call.code().name for call in calls if call.done()] == ["RESOURCE_EXHAUSTED"] * 2
    node.be_normal()
    assert sum(call.exception() is None for call in calls) == 3
    wire.close()


def test_a_thousand_calls_at_once_are_all_carried_out_once(wire: Wire, node: LocalNode, server: GrpcServer) -> None:
    threads_before = threading.active_count()
    calls = [wire.future(PUT, pb.PutRequest(key=b"k%d" % (number % 100)), pb.PutResponse, 60) for number in range(1000)]
    revisions = sorted(call.result().header.revision for call in calls)
    assert revisions == list(range(2, 1002))
    assert node.state.keys_count() == 100
    assert threading.active_count() <= threads_before + 2  # gRPC's own, of the client
    metrics = server.metrics()
    assert metrics['grpc_requests_started_total{method="etcdserverpb.KV/Put"}'] == 1000
    assert metrics['grpc_requests_handled_total{method="etcdserverpb.KV/Put",code="OK"}'] == 1000
    assert metrics['grpc_requests_in_flight{method="etcdserverpb.KV/Put"}'] == 0


# --- errors and counting


def test_an_unforeseen_error_is_logged_and_not_told(
    wire: Wire, node: LocalNode, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret of the node")

    monkeypatch.setattr(node, "propose", broken)
    refused = wire.fail(PUT, pb.PutRequest(key=b"k"))
    assert refused[:2] == ("INTERNAL", "internal error; the node's log says more")
    assert "a call of /etcdserverpb.KV/Put failed unexpectedly" in caplog.text
    assert "a secret of the node" in caplog.text


def test_a_call_that_is_cancelled_before_it_began_is_no_error(
    server: GrpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Told by gRPC's own logger, as gRPC tells it: the moment cannot be brought about from outside."""
    seen: list[BaseException] = [asyncio.CancelledError(), ValueError("an unforeseen one")]
    for error in seen:
        try:
            raise error
        except BaseException:
            logging.getLogger(GRPC_LOGGER).exception("Exception not handled by _handle_exceptions in servicer method")
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == seen[1:]


def test_an_unknown_method(wire: Wire) -> None:
    assert wire.fail("/etcdserverpb.Lease/LeaseGrant", b"").code == "UNIMPLEMENTED"


def test_calls_are_counted_by_code_with_their_latency(wire: Wire, server: GrpcServer) -> None:
    wire.call(PUT, pb.PutRequest(key=b"k"), pb.PutResponse)
    wire.fail(PUT, pb.PutRequest())
    wire.fail(PUT, b"\xff")
    metrics = server.metrics()
    method = 'method="etcdserverpb.KV/Put"'
    assert metrics[f"grpc_requests_started_total{{{method}}}"] == 3
    assert metrics[f'grpc_requests_handled_total{{{method},code="OK"}}'] == 1
    assert metrics[f'grpc_requests_handled_total{{{method},code="INVALID_ARGUMENT"}}'] == 2
    assert metrics[f'grpc_request_duration_seconds_bucket{{{method},le="+Inf"}}'] == 3
    assert metrics[f"grpc_request_duration_seconds_count{{{method}}}"] == 3
    assert 0 < metrics[f"grpc_request_duration_seconds_sum{{{method}}}"] < WAIT_S


# --- reflection


def test_reflection_lists_every_service_and_describes_it(wire: Wire) -> None:
    database = ProtoReflectionDescriptorDatabase(wire.channel)
    services = set(database.get_services())
    assert services == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    for service in services:
        file = database.FindFileContainingSymbol(service)
        assert service.rpartition(".")[2] in [described.name for described in file.service]


def test_reflection_gives_a_file_with_all_that_it_needs(wire: Wire) -> None:
    """What grpcurl does: one question, and the answer must be enough to build the messages."""
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="etcdserverpb.KV")
    answer = next(wire.duplex(path, iter([request]), reflection_pb2.ServerReflectionResponse))
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(file)
        for file in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert {file.name for file in files} == {"etcd/rpc.proto", "etcd/kv.proto"}
    unknown = reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.Such")
    assert next(wire.duplex(path, iter([unknown]), reflection_pb2.ServerReflectionResponse)).HasField("error_response")


def test_status_tells_what_the_node_knows(wire: Wire, node: LocalNode) -> None:
    status = wire.call("/rocinante.v1.Cluster/Status", cluster_pb2.StatusRequest(), cluster_pb2.StatusResponse)
    assert (status.id, status.role, status.leader, status.leader_endpoint) == (
        node.member.id,
        "leader",
        node.member.id,
        node.member.endpoint,
    )
    assert status.storage == "memory"
    assert status.cluster_id == node.cluster_id
    assert status.version
