from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PeerStatus(_message.Message):
    __slots__ = ("id", "name", "endpoint", "state", "match", "lag", "connected", "heard_ms", "role", "term", "commit", "applied", "version", "rest", "learner")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MATCH_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    HEARD_MS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REST_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    endpoint: str
    state: str
    match: int
    lag: int
    connected: bool
    heard_ms: int
    role: str
    term: int
    commit: int
    applied: int
    version: str
    rest: int
    learner: bool
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., endpoint: _Optional[str] = ..., state: _Optional[str] = ..., match: _Optional[int] = ..., lag: _Optional[int] = ..., connected: _Optional[bool] = ..., heard_ms: _Optional[int] = ..., role: _Optional[str] = ..., term: _Optional[int] = ..., commit: _Optional[int] = ..., applied: _Optional[int] = ..., version: _Optional[str] = ..., rest: _Optional[int] = ..., learner: _Optional[bool] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("id", "name", "endpoint", "role", "term", "leader", "leader_endpoint", "commit", "applied", "last_index", "first_index", "revision", "keys", "flows", "storage", "version", "protocol_version", "cluster", "datacenter", "cluster_id", "peers", "grpc_enabled", "not_ready_reason", "uptime_ms", "alarms", "lineage")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    LEADER_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    DATACENTER_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    GRPC_ENABLED_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_REASON_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    endpoint: str
    role: str
    term: int
    leader: int
    leader_endpoint: str
    commit: int
    applied: int
    last_index: int
    first_index: int
    revision: int
    keys: int
    flows: int
    storage: str
    version: str
    protocol_version: int
    cluster: str
    datacenter: str
    cluster_id: int
    peers: _containers.RepeatedCompositeFieldContainer[PeerStatus]
    grpc_enabled: bool
    not_ready_reason: str
    uptime_ms: int
    alarms: _containers.RepeatedScalarFieldContainer[str]
    lineage: str
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., endpoint: _Optional[str] = ..., role: _Optional[str] = ..., term: _Optional[int] = ..., leader: _Optional[int] = ..., leader_endpoint: _Optional[str] = ..., commit: _Optional[int] = ..., applied: _Optional[int] = ..., last_index: _Optional[int] = ..., first_index: _Optional[int] = ..., revision: _Optional[int] = ..., keys: _Optional[int] = ..., flows: _Optional[int] = ..., storage: _Optional[str] = ..., version: _Optional[str] = ..., protocol_version: _Optional[int] = ..., cluster: _Optional[str] = ..., datacenter: _Optional[str] = ..., cluster_id: _Optional[int] = ..., peers: _Optional[_Iterable[_Union[PeerStatus, _Mapping]]] = ..., grpc_enabled: _Optional[bool] = ..., not_ready_reason: _Optional[str] = ..., uptime_ms: _Optional[int] = ..., alarms: _Optional[_Iterable[str]] = ..., lineage: _Optional[str] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("id", "name", "address", "port", "rest", "learner", "leader")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    REST_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    address: str
    port: int
    rest: int
    learner: bool
    leader: bool
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., rest: _Optional[int] = ..., learner: _Optional[bool] = ..., leader: _Optional[bool] = ...) -> None: ...

class MembersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MembersResponse(_message.Message):
    __slots__ = ("members", "joint", "index")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    JOINT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    joint: bool
    index: int
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., joint: _Optional[bool] = ..., index: _Optional[int] = ...) -> None: ...

class AddMemberRequest(_message.Message):
    __slots__ = ("name", "address", "port", "rest", "voter")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    REST_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    port: int
    rest: int
    voter: bool
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., rest: _Optional[int] = ..., voter: _Optional[bool] = ...) -> None: ...

class PromoteMemberRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class RemoveMemberRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class TransferLeaderRequest(_message.Message):
    __slots__ = ("to",)
    TO_FIELD_NUMBER: _ClassVar[int]
    to: int
    def __init__(self, to: _Optional[int] = ...) -> None: ...

class TransferLeaderResponse(_message.Message):
    __slots__ = ("leader",)
    LEADER_FIELD_NUMBER: _ClassVar[int]
    leader: int
    def __init__(self, leader: _Optional[int] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("session", "idle_ms_max")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    IDLE_MS_MAX_FIELD_NUMBER: _ClassVar[int]
    session: int
    idle_ms_max: int
    def __init__(self, session: _Optional[int] = ..., idle_ms_max: _Optional[int] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: int
    def __init__(self, session: _Optional[int] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
