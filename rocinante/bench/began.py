"""What is begun on entering a `with` block and closed on leaving it, also where its beginning fails half-way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["Began"]


class Began(ABC):
    """`close` ends whatever `begin` has begun so far."""

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
