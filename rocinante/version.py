"""Versions: of the software, of the wire, of the data directory."""

from typing import Final

__version__: Final = "0.1.0"
PROTOCOL_VERSION: Final = 1
DATA_FORMAT: Final = 2
"""A node refuses to start on data of a newer format …"""
DATA_FORMAT_OLDEST: Final = 2
"""… or of an older one than this."""
