"""The client-facing gRPC interface: one server (`GrpcServer`) with etcd's KV and Watch, Flow, Cluster, Admin,
health and reflection.

It sees the node through `rocinante.ports.NodePort` only; a service is one module, and what surrounds every call is
`call.py`.
"""

from rocinante.services.server import SERVICES, GrpcServer

__all__ = ["SERVICES", "GrpcServer"]
