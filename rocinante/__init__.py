"""Rocinante: TCP/UDP flow state, agreed by Raft, shared between load balancers, firewalls and data centres."""

from rocinante.version import __version__

__all__ = ["__version__"]
