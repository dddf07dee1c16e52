"""grpc.health.v1: SERVING per service while the node is ready, else NOT_SERVING. Answered even when everything
else is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

SERVICE = "grpc.health.v1.Health"


class HealthService(health.aio.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """gRPC's own servicer with the newer List, and one switch for all services. Used on the event loop only."""

    def __init__(self, services: Sequence[str]) -> None:
        super().__init__()
        self._services = ("", *services)
        for service in self._services:
            self._server_status[service] = health_pb2.HealthCheckResponse.NOT_SERVING

    async def set_serving(self, serving: bool) -> None:
        """Tell everybody who watches."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services:
            await self.set(service, status)

    async def List(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802  (the protocol's name)
        statuses = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._server_status.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    def handlers(self) -> dict[str, Any]:
        """By path. (`add_HealthServicer_to_server` would register each method by itself, and each registered
        method makes every call slower.)"""
        request, response = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        return {
            f"/{SERVICE}/Check": grpc.unary_unary_rpc_method_handler(self.Check, request, response),
            f"/{SERVICE}/Watch": grpc.unary_stream_rpc_method_handler(self.Watch, request, response),
            f"/{SERVICE}/List": grpc.unary_unary_rpc_method_handler(
                self.List, health_pb2.HealthListRequest.FromString, health_pb2.HealthListResponse.SerializeToString
            ),
        }
