from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINEARIZABLE: _ClassVar[Consistency]
    STALE: _ClassVar[Consistency]
LINEARIZABLE: Consistency
STALE: Consistency

class Endpoint(_message.Message):
    __slots__ = ("address", "port")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    address: bytes
    port: int
    def __init__(self, address: _Optional[bytes] = ..., port: _Optional[int] = ...) -> None: ...

class Tuple(_message.Message):
    __slots__ = ("zone", "protocol", "source", "destination")
    ZONE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    zone: int
    protocol: int
    source: Endpoint
    destination: Endpoint
    def __init__(self, zone: _Optional[int] = ..., protocol: _Optional[int] = ..., source: _Optional[_Union[Endpoint, _Mapping]] = ..., destination: _Optional[_Union[Endpoint, _Mapping]] = ...) -> None: ...

class FlowRecord(_message.Message):
    __slots__ = ("original", "reply", "tcp_state", "flags", "deadline_ms", "updated_ms", "mark", "backend", "backend_name", "packets_original", "bytes_original", "packets_reply", "bytes_reply", "application_data", "origin", "id")
    ORIGINAL_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    TCP_STATE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    UPDATED_MS_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    BACKEND_NAME_FIELD_NUMBER: _ClassVar[int]
    PACKETS_ORIGINAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_ORIGINAL_FIELD_NUMBER: _ClassVar[int]
    PACKETS_REPLY_FIELD_NUMBER: _ClassVar[int]
    BYTES_REPLY_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_DATA_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    original: Tuple
    reply: Tuple
    tcp_state: int
    flags: int
    deadline_ms: int
    updated_ms: int
    mark: int
    backend: Endpoint
    backend_name: str
    packets_original: int
    bytes_original: int
    packets_reply: int
    bytes_reply: int
    application_data: bytes
    origin: str
    id: str
    def __init__(self, original: _Optional[_Union[Tuple, _Mapping]] = ..., reply: _Optional[_Union[Tuple, _Mapping]] = ..., tcp_state: _Optional[int] = ..., flags: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., updated_ms: _Optional[int] = ..., mark: _Optional[int] = ..., backend: _Optional[_Union[Endpoint, _Mapping]] = ..., backend_name: _Optional[str] = ..., packets_original: _Optional[int] = ..., bytes_original: _Optional[int] = ..., packets_reply: _Optional[int] = ..., bytes_reply: _Optional[int] = ..., application_data: _Optional[bytes] = ..., origin: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class PutFlowsRequest(_message.Message):
    __slots__ = ("batch", "flows", "origin")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    batch: bytes
    flows: _containers.RepeatedCompositeFieldContainer[FlowRecord]
    origin: str
    def __init__(self, batch: _Optional[bytes] = ..., flows: _Optional[_Iterable[_Union[FlowRecord, _Mapping]]] = ..., origin: _Optional[str] = ...) -> None: ...

class PutFlowsResponse(_message.Message):
    __slots__ = ("index", "records", "leader")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    index: int
    records: int
    leader: int
    def __init__(self, index: _Optional[int] = ..., records: _Optional[int] = ..., leader: _Optional[int] = ...) -> None: ...

class GetFlowsRequest(_message.Message):
    __slots__ = ("tuples", "keys", "consistency", "packed_keys")
    TUPLES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    PACKED_KEYS_FIELD_NUMBER: _ClassVar[int]
    tuples: _containers.RepeatedCompositeFieldContainer[Tuple]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    consistency: Consistency
    packed_keys: bytes
    def __init__(self, tuples: _Optional[_Iterable[_Union[Tuple, _Mapping]]] = ..., keys: _Optional[_Iterable[bytes]] = ..., consistency: _Optional[_Union[Consistency, str]] = ..., packed_keys: _Optional[bytes] = ...) -> None: ...

class GetFlowsResponse(_message.Message):
    __slots__ = ("results", "index", "age_ms", "leader", "packed")
    class Found(_message.Message):
        __slots__ = ("found", "flow")
        FOUND_FIELD_NUMBER: _ClassVar[int]
        FLOW_FIELD_NUMBER: _ClassVar[int]
        found: bool
        flow: FlowRecord
        def __init__(self, found: _Optional[bool] = ..., flow: _Optional[_Union[FlowRecord, _Mapping]] = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[GetFlowsResponse.Found]
    index: int
    age_ms: int
    leader: int
    packed: PackedFlows
    def __init__(self, results: _Optional[_Iterable[_Union[GetFlowsResponse.Found, _Mapping]]] = ..., index: _Optional[int] = ..., age_ms: _Optional[int] = ..., leader: _Optional[int] = ..., packed: _Optional[_Union[PackedFlows, _Mapping]] = ...) -> None: ...

class PackedFlows(_message.Message):
    __slots__ = ("found", "origins", "batch", "variable")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    found: bytes
    origins: _containers.RepeatedScalarFieldContainer[str]
    batch: bytes
    variable: bytes
    def __init__(self, found: _Optional[bytes] = ..., origins: _Optional[_Iterable[str]] = ..., batch: _Optional[bytes] = ..., variable: _Optional[bytes] = ...) -> None: ...

class WaitAppliedRequest(_message.Message):
    __slots__ = ("index", "timeout_ms")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    index: int
    timeout_ms: int
    def __init__(self, index: _Optional[int] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class WaitAppliedResponse(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class FlowFilter(_message.Message):
    __slots__ = ("address", "port", "protocol", "tcp_state", "backend", "zone", "origin")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TCP_STATE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    address: _containers.RepeatedScalarFieldContainer[str]
    port: _containers.RepeatedScalarFieldContainer[int]
    protocol: _containers.RepeatedScalarFieldContainer[int]
    tcp_state: _containers.RepeatedScalarFieldContainer[int]
    backend: str
    zone: int
    origin: str
    def __init__(self, address: _Optional[_Iterable[str]] = ..., port: _Optional[_Iterable[int]] = ..., protocol: _Optional[_Iterable[int]] = ..., tcp_state: _Optional[_Iterable[int]] = ..., backend: _Optional[str] = ..., zone: _Optional[int] = ..., origin: _Optional[str] = ...) -> None: ...

class ListFlowsRequest(_message.Message):
    __slots__ = ("filter", "limit", "cursor", "consistency")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    filter: FlowFilter
    limit: int
    cursor: bytes
    consistency: Consistency
    def __init__(self, filter: _Optional[_Union[FlowFilter, _Mapping]] = ..., limit: _Optional[int] = ..., cursor: _Optional[bytes] = ..., consistency: _Optional[_Union[Consistency, str]] = ...) -> None: ...

class ListFlowsResponse(_message.Message):
    __slots__ = ("flows", "cursor", "index", "age_ms", "leader")
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    flows: _containers.RepeatedCompositeFieldContainer[FlowRecord]
    cursor: bytes
    index: int
    age_ms: int
    leader: int
    def __init__(self, flows: _Optional[_Iterable[_Union[FlowRecord, _Mapping]]] = ..., cursor: _Optional[bytes] = ..., index: _Optional[int] = ..., age_ms: _Optional[int] = ..., leader: _Optional[int] = ...) -> None: ...

class DeleteFlowsRequest(_message.Message):
    __slots__ = ("tuples", "keys", "origin", "filter", "all", "cursor")
    TUPLES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    tuples: _containers.RepeatedCompositeFieldContainer[Tuple]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    origin: str
    filter: FlowFilter
    all: bool
    cursor: bytes
    def __init__(self, tuples: _Optional[_Iterable[_Union[Tuple, _Mapping]]] = ..., keys: _Optional[_Iterable[bytes]] = ..., origin: _Optional[str] = ..., filter: _Optional[_Union[FlowFilter, _Mapping]] = ..., all: _Optional[bool] = ..., cursor: _Optional[bytes] = ...) -> None: ...

class DeleteFlowsResponse(_message.Message):
    __slots__ = ("index", "deleted", "leader", "cursor", "looked_at", "places")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LOOKED_AT_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    index: int
    deleted: int
    leader: int
    cursor: bytes
    looked_at: int
    places: int
    def __init__(self, index: _Optional[int] = ..., deleted: _Optional[int] = ..., leader: _Optional[int] = ..., cursor: _Optional[bytes] = ..., looked_at: _Optional[int] = ..., places: _Optional[int] = ...) -> None: ...

class WatchFlowsRequest(_message.Message):
    __slots__ = ("from_index", "filter", "snapshot", "batches")
    FROM_INDEX_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    from_index: int
    filter: FlowFilter
    snapshot: bool
    batches: bool
    def __init__(self, from_index: _Optional[int] = ..., filter: _Optional[_Union[FlowFilter, _Mapping]] = ..., snapshot: _Optional[bool] = ..., batches: _Optional[bool] = ...) -> None: ...

class FlowEvent(_message.Message):
    __slots__ = ("type", "index", "origin", "flows", "batch", "keys", "packed_keys", "key_bytes")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PUT: _ClassVar[FlowEvent.Type]
        DELETE: _ClassVar[FlowEvent.Type]
        EXPIRE: _ClassVar[FlowEvent.Type]
    PUT: FlowEvent.Type
    DELETE: FlowEvent.Type
    EXPIRE: FlowEvent.Type
    TYPE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    PACKED_KEYS_FIELD_NUMBER: _ClassVar[int]
    KEY_BYTES_FIELD_NUMBER: _ClassVar[int]
    type: FlowEvent.Type
    index: int
    origin: str
    flows: _containers.RepeatedCompositeFieldContainer[FlowRecord]
    batch: bytes
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    packed_keys: bytes
    key_bytes: int
    def __init__(self, type: _Optional[_Union[FlowEvent.Type, str]] = ..., index: _Optional[int] = ..., origin: _Optional[str] = ..., flows: _Optional[_Iterable[_Union[FlowRecord, _Mapping]]] = ..., batch: _Optional[bytes] = ..., keys: _Optional[_Iterable[bytes]] = ..., packed_keys: _Optional[bytes] = ..., key_bytes: _Optional[int] = ...) -> None: ...

class WatchFlowsResponse(_message.Message):
    __slots__ = ("state", "index", "events")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EVENTS: _ClassVar[WatchFlowsResponse.State]
        SNAPSHOT: _ClassVar[WatchFlowsResponse.State]
        SNAPSHOT_DONE: _ClassVar[WatchFlowsResponse.State]
        FELL_BEHIND: _ClassVar[WatchFlowsResponse.State]
    EVENTS: WatchFlowsResponse.State
    SNAPSHOT: WatchFlowsResponse.State
    SNAPSHOT_DONE: WatchFlowsResponse.State
    FELL_BEHIND: WatchFlowsResponse.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    state: WatchFlowsResponse.State
    index: int
    events: _containers.RepeatedCompositeFieldContainer[FlowEvent]
    def __init__(self, state: _Optional[_Union[WatchFlowsResponse.State, str]] = ..., index: _Optional[int] = ..., events: _Optional[_Iterable[_Union[FlowEvent, _Mapping]]] = ...) -> None: ...
