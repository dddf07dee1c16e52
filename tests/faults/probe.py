"""Is the network as bad as it claims to be? `python -m tests.faults.probe` measures it between two hosts, as JSON.

Round trips over UDP (no retransmission hides anything) from host 1 to host 2: whole, delayed, lossy, cut in each
direction, and whole again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from tests.faults.namespaces import Lab, node_address
from tests.faults.network import Network, between, from_to

PORT: Final = 7007
PACKETS: Final = 200
DELAY_MS: Final = (30, 150)
LOSS_PERCENT: Final = 30
SILENCE_S: Final = 4.0
"""When nothing has come for so long, nothing more will."""
_ECHO: Final = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    data, sender = server.recvfrom(100)
    server.sendto(data, sender)
"""
_PING: Final = """
import json, select, socket, sys, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect((sys.argv[1], int(sys.argv[2])))
trips, count = [], int(sys.argv[3])

def listen(seconds):
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and len(trips) < count:
        if select.select([client], [], [], left)[0]:
            trips.append((time.monotonic_ns() - int(client.recv(100))) / 1e6)

for _ in range(count):
    client.send(b"%d" % time.monotonic_ns())
    listen(0.002)
while len(trips) < count and select.select([client], [], [], float(sys.argv[4]))[0]:
    listen(0.1)
print(json.dumps(trips))
"""


def measure(lab: Lab) -> dict[str, Any]:
    """How many of the packets came back, and after what time the quickest one: the others may have waited for a busy
    machine."""
    command = [*lab.prefix(1), sys.executable, "-c", _PING, node_address(2), str(PORT), str(PACKETS), str(SILENCE_S)]
    trips = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
    return {"back": len(trips), "quickest_ms": round(min(trips), 2) if trips else None}


def main() -> int:
    found: dict[str, Any] = {}
    with Lab() as lab:
        for number in (1, 2):
            lab.add_node(number)
        network = Network(lab)
        echo = subprocess.Popen(
            [*lab.prefix(2), "setpriv", "--pdeathsig", "KILL", sys.executable, "-c", _ECHO, node_address(2), str(PORT)],
            stdout=subprocess.PIPE,
        )
        try:
            assert echo.stdout is not None
            echo.stdout.readline()
            found["whole"] = measure(lab)
            network.delay([1, 2], *DELAY_MS, seed="probe")
            found["delayed"] = measure(lab) | {"hits": network.heal()}
            network.lose(between([1], [2]), LOSS_PERCENT)
            found["lossy"] = measure(lab) | {"hits": network.heal()}
            network.cut(from_to([1], [2]))
            found["cut there"] = measure(lab) | {"hits": network.heal()}
            network.cut(from_to([2], [1]))
            found["cut back"] = measure(lab) | {"hits": network.heal()}
            found["healed"] = measure(lab)
        finally:
            echo.kill()
            echo.communicate()
            network.close()
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
