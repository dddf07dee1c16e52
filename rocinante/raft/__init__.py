"""The consensus core: Raft, pure. No clock, thread, socket, file or global randomness; imports nothing of ours.

`Raft` is the node; `types` has the nouns; `RaftOptions` the knobs. See `core` for how it is driven.
"""

from .core import Raft
from .membership import check_config, decode_change, decode_config, encode_change, next_config
from .options import RaftOptions, RotationMode
from .progress import ProgressState
from .status import PeerStatus, RotationStatus, Status
from .types import (
    NONE,
    Change,
    ChangeKind,
    Config,
    ConfigChange,
    Entry,
    EntryKind,
    FatalInconsistency,
    HardState,
    InvalidChange,
    Message,
    MessageType,
    NotLeader,
    ProposalDropped,
    RaftError,
    ReadNotPossible,
    ReadState,
    Ready,
    Role,
    SnapshotMeta,
    TransferRefused,
    Transition,
)

__all__ = [
    "NONE",
    "Change",
    "ChangeKind",
    "Config",
    "ConfigChange",
    "Entry",
    "EntryKind",
    "FatalInconsistency",
    "HardState",
    "InvalidChange",
    "Message",
    "MessageType",
    "NotLeader",
    "PeerStatus",
    "ProgressState",
    "ProposalDropped",
    "Raft",
    "RaftError",
    "RaftOptions",
    "ReadNotPossible",
    "ReadState",
    "Ready",
    "Role",
    "RotationMode",
    "RotationStatus",
    "SnapshotMeta",
    "Status",
    "TransferRefused",
    "Transition",
    "check_config",
    "decode_change",
    "decode_config",
    "encode_change",
    "next_config",
]
