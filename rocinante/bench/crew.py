"""Load in processes of its own, so that neither it nor the progress bar nor what is measured waits for the others.

A job is an object that can be pickled. Its process calls `job.work(control)`: it connects, says `control.ready()`,
which returns when all others are ready too, works until it is done or `control.stopping` is set, and returns what it
measured. Times are `time.monotonic()`, which is the same clock in all processes of a machine, so a parent may cut the
measured stretch out of what they return. Processes are started afresh (`spawn`): gRPC must not be forked.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Protocol

from rocinante.bench import bounds
from rocinante.bench.began import Began
from rocinante.errors import RocinanteError, Unavailable

__all__ = ["Control", "Crew", "Job"]

PROGRESS_S: Final = 0.1


class Gone(Exception):
    """(In a load process.) The parent is gone, or wants no more."""


class Control:
    """What a job knows of its parent."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._told_s = 0.0
        self.stopping = threading.Event()
        """The parent has what it wants."""
        self.last_word: Any = None
        """What the parent said when it wanted no more."""
        self.began_s = 0.0
        """When all began."""

    def ready(self) -> None:
        """Say so, and wait until all are. Raises Gone."""
        self._pipe.send(("ready", None))
        try:
            self._pipe.recv()
        except (EOFError, OSError):
            raise Gone from None
        self.began_s = time.monotonic()
        threading.Thread(target=self._listen, name="bench-control", daemon=True).start()

    def note(self, figures: Any) -> None:
        """Tell the parent how far it is: at most ten times a second, what lies between is dropped."""
        now_s = time.monotonic()
        if now_s - self._told_s >= PROGRESS_S:
            self._told_s = now_s
            self._pipe.send(("note", figures))

    def _listen(self) -> None:
        """(Thread `bench-control`.) Whatever comes, and the parent's end, means: stop."""
        try:
            self.last_word = self._pipe.recv()
        except (EOFError, OSError):
            pass
        self.stopping.set()


class Job(Protocol):
    """See the module."""

    @property
    def name(self) -> str: ...
    def work(self, control: Control) -> Any: ...


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    note: Any = None
    done: bool = False
    result: Any = None


class Crew(Began):
    """`with Crew(jobs) as crew:` starts the processes and returns when all are ready; leaving ends them.

    Every method raises Unavailable when a process could not connect or died.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._workers: list[_Worker] = []

    def begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        for job in self._jobs:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, job), name=job.name, daemon=True)
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))
        deadline_s = time.monotonic() + bounds.BENCH_START_TIMEOUT_S
        while not all(worker.ready for worker in self._workers):
            if time.monotonic() > deadline_s:
                raise Unavailable("a load process did not connect in time")
            self._receive()

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def go(self) -> None:
        for worker in self._workers:
            worker.pipe.send("go")

    def notes(self) -> list[Any]:
        """What each process said last; returns after a tenth of a second at most."""
        self._receive()
        return [worker.note for worker in self._workers]

    def watch_for(self, seconds: float, told: Callable[[list[Any]], None]) -> None:
        """Let them work for so long."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            told(self.notes())

    def stop(self, last_word: Any = None) -> None:
        """Tell them to come to their end; `results` waits for it."""
        for worker in self._workers:
            if not worker.done:
                try:
                    worker.pipe.send(last_word)
                except OSError:
                    pass  # `results` says how it ended

    def results(self, told: Callable[[list[Any]], None] | None = None, timeout_s: float | None = None) -> list[Any]:
        """What the jobs returned. `told` is given their notes meanwhile."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not all(worker.done for worker in self._workers):
            notes = self.notes()
            if told is not None:
                told(notes)
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise Unavailable(f"a load process did not end within {timeout_s:g} s")
        return [worker.result for worker in self._workers]

    def _receive(self) -> None:
        waiting = {worker.pipe: worker for worker in self._workers if not worker.done}
        if not waiting:
            time.sleep(PROGRESS_S)
        for pipe in wait(list(waiting), PROGRESS_S):
            assert isinstance(pipe, Connection)
            worker = waiting[pipe]
            try:
                kind, value = pipe.recv()
            except (EOFError, ConnectionResetError):
                worker.process.join()
                raise Unavailable(f"{worker.process.name} ended with {worker.process.exitcode}") from None
            if kind == "failed":
                raise Unavailable(f"{worker.process.name}: {value}")
            worker.ready = True
            if kind == "note":
                worker.note = value
            elif kind == "result":
                worker.done, worker.result = True, value


def _work(pipe: Connection, job: Job) -> None:
    """The life of a load process. Ctrl-C is the parent's affair: it ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pipe.send(("result", job.work(Control(pipe))))
    except Gone:
        return
    except RocinanteError as error:
        pipe.send(("failed", error.message))
    except TimeoutError:
        pipe.send(("failed", "cannot connect in time"))
