"""Where and whether the sniffer of a development cluster can run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CAP_NET_RAW: Final = 13
"""linux/capability.h"""
_UP: Final = 1
"""RTF_UP of linux/route.h"""


def may_capture(status: str | None = None) -> bool:
    """Whether this process has CAP_NET_RAW in effect (`status`: the text of /proc/self/status)."""
    text = Path("/proc/self/status").read_text() if status is None else status
    for line in text.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_NET_RAW & 1)
    return False


def default_interface(ipv4: str | None = None, ipv6: str | None = None) -> str:
    """The interface of the default route, IPv4 before IPv6 (the texts of /proc/net/route and ipv6_route); "" when
    there is none."""
    ipv4 = _read("/proc/net/route") if ipv4 is None else ipv4
    best: tuple[int, str] | None = None
    for line in ipv4.splitlines()[1:]:
        name, destination, _, flags, _, _, metric, mask, *_ = line.split()
        if destination == mask == "00000000" and int(flags, 16) & _UP:
            best = min(best or (int(metric), name), (int(metric), name))
    if best is not None:
        return best[1]
    ipv6 = _read("/proc/net/ipv6_route") if ipv6 is None else ipv6
    for line in ipv6.splitlines():
        destination, length, *_, flags, name = line.split()
        if int(destination, 16) == 0 and length == "00" and int(flags, 16) & _UP and name != "lo":
            return name
    return ""


def interfaces() -> list[str]:
    """Loopback, and where the default route goes."""
    found = default_interface()
    return ["lo", found] if found and found != "lo" else ["lo"]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
