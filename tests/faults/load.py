"""The load, a process of its own: `python -m tests.faults.load`, told what to do on standard input.

    {"do": "begin", "round": 3, "nodes": [["10.77.0.1:35001", "http://10.77.0.1:8001"], …], "seed": "…"}
    {"do": "end", "file": "/…/history.jsonl"}      stops asking, reads every key once more, writes the history

Each order is answered by a line `{"did": …}`; the end of standard input ends the process. So what the harness computes
does not slow the clients down, and the checker runs while there is no load.

Every key has the round's number in its name, so each round's history begins with nothing.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from tests.faults.clients import TIMEOUT_S, Asking, FlowWriter, Following, OverRest, Plain
from tests.faults.history import FLOW_READ, FLOW_WRITE, Asked, write_history

CLIENTS: Final = 8
PLAIN: Final = 5
FLOW_CLIENTS: Final = 2
KEYS: Final = 10
CALLS_PER_S: Final = 40.0
"""By each client, at most; one that waits for an answer does not ask meanwhile."""
FLOW_CALLS_PER_S: Final = 15.0
SHARES: Final = {"get": 40, "put": 30, "cas": 20, "delete": 10}
LAST_READ_S: Final = 20.0
"""For the reads at the end, with retries: by then the cluster is whole."""


class KeyCaller:
    """One client of keys over one round."""

    def __init__(self, client: Asking, round_: int, rng: random.Random) -> None:
        self.client = client
        self.history: list[Asked] = []
        self._round = round_
        self._rng = rng
        self._seen: dict[str, str | None] = {}
        self._values = 0

    def ask(self) -> None:
        verbs = self.client.verbs
        verb = self._rng.choices(verbs, [SHARES[name] for name in verbs])[0]
        one = Asked(self.client.name, key_name(self._round, self._rng.randrange(KEYS)), verb, 0.0)
        if verb in ("put", "cas"):
            self._values += 1
            one.value = f"{self.client.name}/{self._values}"
        if verb == "cas":
            one.expected = self._seen.get(one.key)
        self.client.do(one)
        self.history.append(one)
        if one.how == "ok":
            self._notice(one)

    def _notice(self, one: Asked) -> None:
        """What this client believes to be there, so that a compare-and-swap has a chance."""
        if one.verb == "get":
            self._seen[one.key] = one.output
        elif one.verb == "delete":
            self._seen[one.key] = None
        elif one.verb == "put" or one.output is True:
            self._seen[one.key] = one.value


class FlowCaller:
    """One client of flows over one round."""

    def __init__(self, client: FlowWriter, round_: int) -> None:
        self.client = client
        self.history: list[Asked] = []
        self._round = round_
        self._counter = 0

    def ask(self) -> None:
        self._counter += 1
        for verb in (FLOW_WRITE, FLOW_READ):
            one = Asked(self.client.name, f"{self._round}/{self.client.name}", verb, 0.0, value=str(self._counter))
            self.client.do(one, self._round % 0xFFFF)
            self.history.append(one)


def key_name(round_: int, number: int) -> str:
    return f"faults/{round_:05}/{number}"


class Load:
    """All clients; they live as long as the cluster, a round has threads of its own."""

    def __init__(self, nodes: list[list[str]]) -> None:
        endpoints = [endpoint for endpoint, _ in nodes]
        self._clients: list[Asking] = []
        for number in range(CLIENTS):
            if number < PLAIN:
                node = number % len(nodes)
                self._clients.append(Plain(f"plain-{number}-node{node + 1}", endpoints[node]))
            elif number < CLIENTS - 1:
                self._clients.append(Following(f"client-{number}", endpoints))
            else:
                self._clients.append(OverRest(f"rest-{number}", [url for _, url in nodes]))
        self._flows = [FlowWriter(number, endpoints) for number in range(FLOW_CLIENTS)]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._callers: list[KeyCaller | FlowCaller] = []
        self._last = Following("last-reader", endpoints)
        self._round = 0

    def begin(self, round_: int, seed: str) -> None:
        self._round = round_
        self._stop.clear()
        keys = [KeyCaller(client, round_, random.Random(f"{seed}/{client.name}")) for client in self._clients]
        flows = [FlowCaller(client, round_) for client in self._flows]
        self._callers = []
        self._callers += keys
        self._callers += flows
        self._threads = [
            threading.Thread(target=self._run, args=(caller,), name=caller.client.name) for caller in self._callers
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, caller: KeyCaller | FlowCaller) -> None:
        per_s = CALLS_PER_S if isinstance(caller, KeyCaller) else FLOW_CALLS_PER_S
        rng = random.Random(caller.client.name)
        due = time.monotonic()
        while not self._stop.is_set():
            caller.ask()
            due = max(due + rng.uniform(0.5, 1.5) / per_s, time.monotonic() - 1 / per_s)
            self._stop.wait(max(0.0, due - time.monotonic()))

    def end(self, file: Path) -> int:
        """The number of calls."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        history = [one for caller in self._callers for one in caller.history]
        history += self._read_all()
        history += [one for client in self._flows for one in self._read_flows(client)]
        write_history(file, sorted(history, key=lambda one: one.called))
        return len(history)

    def _read_all(self) -> list[Asked]:
        """What is there at the end is the last word of every key's history."""
        deadline = time.monotonic() + LAST_READ_S
        found = []
        for number in range(KEYS):
            one = Asked(self._last.name, key_name(self._round, number), "get", 0.0)
            while one.how != "ok" and time.monotonic() < deadline:
                self._last.do(one)
            one.how = "error" if one.how != "ok" else one.how
            found.append(one)
        return found

    def _read_flows(self, client: FlowWriter) -> list[Asked]:
        deadline = time.monotonic() + LAST_READ_S
        one = Asked(client.name, f"{self._round}/{client.name}", FLOW_READ, 0.0)
        while one.how != "ok" and time.monotonic() < deadline:
            client.do(one, self._round % 0xFFFF)
        one.how = "error" if one.how != "ok" else one.how
        return [one]

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)
        for client in self._clients:
            client.close()
        for writer in self._flows:
            writer.close()
        self._last.close()


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the harness ends this process
    load: Load | None = None
    nodes: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "begin":
            if order["nodes"] != nodes:
                if load is not None:
                    load.close()
                nodes = order["nodes"]
                load = Load(nodes)
            assert load is not None
            load.begin(order["round"], order["seed"])
            print(json.dumps({"did": "begin"}), flush=True)
        elif order["do"] == "end":
            assert load is not None
            print(json.dumps({"did": "end", "calls": load.end(Path(order["file"]))}), flush=True)
    if load is not None:
        load.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
