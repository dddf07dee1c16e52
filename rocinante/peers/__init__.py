"""Node-to-node gRPC: append, heartbeat and snapshot channels."""

from rocinante.peers.codec import MalformedMessage, decode_message, encode_message
from rocinante.peers.server import PeerReceiver, PeerService, SnapshotReceiver
from rocinante.peers.transport import Transport

__all__ = [
    "MalformedMessage",
    "PeerReceiver",
    "PeerService",
    "SnapshotReceiver",
    "Transport",
    "decode_message",
    "encode_message",
]
