"""The cluster YAML: what it may say (`model`), reading and checking it (`load`), and which of its controllers this
process is (`claim`)."""

from rocinante.config.claim import Claim, ClaimError, claim
from rocinante.config.flow_model import FlowOptions, FlowTimeouts
from rocinante.config.load import load_config
from rocinante.config.model import (
    NO_FILE,
    AuthOptions,
    ClusterConfig,
    Controller,
    Datacenter,
    IngressLimits,
    LogLevel,
    LogOptions,
    RestOptions,
    Rotation,
    RotationMode,
    StorageEngine,
    StorageOptions,
    Timers,
)

__all__ = [
    "NO_FILE",
    "AuthOptions",
    "Claim",
    "ClaimError",
    "ClusterConfig",
    "Controller",
    "Datacenter",
    "FlowOptions",
    "FlowTimeouts",
    "IngressLimits",
    "LogLevel",
    "LogOptions",
    "RestOptions",
    "Rotation",
    "RotationMode",
    "StorageEngine",
    "StorageOptions",
    "Timers",
    "claim",
    "load_config",
]
