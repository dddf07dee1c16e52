from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SetGrpcRequest(_message.Message):
    __slots__ = ("enabled",)
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    def __init__(self, enabled: _Optional[bool] = ...) -> None: ...

class SetGrpcResponse(_message.Message):
    __slots__ = ("enabled",)
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    def __init__(self, enabled: _Optional[bool] = ...) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotResponse(_message.Message):
    __slots__ = ("index", "term", "bytes", "digest")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    bytes: int
    digest: bytes
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., bytes: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class LogRequest(_message.Message):
    __slots__ = ("last", "committed")
    LAST_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    last: int
    committed: bool
    def __init__(self, last: _Optional[int] = ..., committed: _Optional[bool] = ...) -> None: ...

class LogEntry(_message.Message):
    __slots__ = ("index", "term", "kind", "bytes", "commands", "committed")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    kind: str
    bytes: int
    commands: _containers.RepeatedScalarFieldContainer[str]
    committed: bool
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., kind: _Optional[str] = ..., bytes: _Optional[int] = ..., commands: _Optional[_Iterable[str]] = ..., committed: _Optional[bool] = ...) -> None: ...

class LogResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[LogEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[LogEntry, _Mapping]]] = ...) -> None: ...

class DigestRequest(_message.Message):
    __slots__ = ("at_index",)
    AT_INDEX_FIELD_NUMBER: _ClassVar[int]
    at_index: int
    def __init__(self, at_index: _Optional[int] = ...) -> None: ...

class DigestResponse(_message.Message):
    __slots__ = ("index", "digest", "revision")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    index: int
    digest: bytes
    revision: int
    def __init__(self, index: _Optional[int] = ..., digest: _Optional[bytes] = ..., revision: _Optional[int] = ...) -> None: ...

class SaveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SaveResponse(_message.Message):
    __slots__ = ("chunk", "index", "term", "total_bytes", "digest")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    index: int
    term: int
    total_bytes: int
    digest: bytes
    def __init__(self, chunk: _Optional[bytes] = ..., index: _Optional[int] = ..., term: _Optional[int] = ..., total_bytes: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...
