"""Versions: of the software, of the wire, of the data directory."""

from typing import Final

__version__: Final = "0.1.0"
PROTOCOL_VERSION: Final = 1
PROTOCOL_VERSION_OLDEST: Final = 1
"""Nodes of protocols one apart work in one cluster, so that it goes from version to version one node at a time. A node
refuses an older protocol than this …"""
PROTOCOL_VERSION_NEWEST: Final = PROTOCOL_VERSION + 1
"""… and a newer one than this: the next version's nodes say nothing that this one does not understand, the one after
that may."""
DATA_FORMAT: Final = 2
"""A node refuses to start on data of a newer format …"""
DATA_FORMAT_OLDEST: Final = 2
"""… or of an older one than this."""
