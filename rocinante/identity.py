"""Who is who: the server id and the cluster id. Fixed interface (DESIGN, section 4)."""

from __future__ import annotations

import ipaddress
from hashlib import blake2b

ServerId = int
"""An unsigned 64-bit number; 0 means nobody."""


def endpoint(address: str, port: int) -> str:
    """`IP:PORT` in its one spelling: the address compressed, an IPv6 address in brackets."""
    ip = ipaddress.ip_address(address)
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def server_id(address: str, port: int) -> ServerId:
    """The first 8 bytes, big endian, of BLAKE2b-64 over `IP:PORT`."""
    return int.from_bytes(blake2b(endpoint(address, port).encode(), digest_size=8).digest(), "big")


def cluster_id(name: str, datacenter: str, lineage: str = "") -> int:
    """A 64-bit id of the cluster: messages and data of another one are refused.

    `lineage` is the word that was given to a cluster which was restored from a snapshot ("": it began empty). So the
    nodes from before a restore and those from after it are of different clusters, whatever their YAML says.
    """
    parts = (name, datacenter, lineage) if lineage else (name, datacenter)
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=8).digest(), "big")


def format_id(identifier: int) -> str:
    """How JSON and people see an id: 16 hex digits."""
    return f"{identifier:016x}"


def parse_id(text: str) -> int:
    """The inverse of `format_id`; raises ValueError for anything that is not 1 to 16 hex digits."""
    if not 1 <= len(text) <= 16:
        raise ValueError(f"expected 16 hex digits, got {text!r}")
    return int(text, 16)
