"""grpc.reflection.v1alpha: what a client such as grpcurl asks to learn the services and their messages.

Rocinante's messages live in a descriptor pool of their own (`rocinante/pb/pool.py`), those of health and reflection
in protobuf's default one. The answer comes from a third pool that holds a copy of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from rocinante.pb.etcd import rpc_pb2
from rocinante.pb.v1 import admin_pb2, cluster_pb2, flow_pb2, peer_pb2

SERVICE = "grpc.reflection.v1alpha.ServerReflection"
_FILES = (rpc_pb2, admin_pb2, cluster_pb2, flow_pb2, peer_pb2, health_pb2, reflection_pb2)


def merged_pool() -> DescriptorPool:
    """A pool with everything that this server speaks."""
    pool = DescriptorPool()
    seen: set[str] = set()
    for module in _FILES:
        _add(pool, module.DESCRIPTOR, seen)
    return pool


def _add(pool: DescriptorPool, file: FileDescriptor, seen: set[str]) -> None:
    if file.name in seen:
        return
    seen.add(file.name)
    for dependency in file.dependencies:
        _add(pool, dependency, seen)
    pool.AddSerializedFile(file.serialized_pb)


def reflection_handlers(services: Sequence[str]) -> dict[str, Any]:
    """The handlers by path, for the fully qualified names of `services`."""
    servicer = reflection.aio.ReflectionServicer(services, merged_pool())
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return {f"/{SERVICE}/ServerReflectionInfo": handler}
