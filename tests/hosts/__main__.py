"""Labs by hand: `python -m tests.hosts --help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from tests.hosts import lab
from tests.hosts.names import LabError
from tests.hosts.tree import tree


def _up(arguments: argparse.Namespace) -> None:
    layout = json.loads(arguments.layout) if arguments.layout else lab.TWO_DATACENTERS
    began = time.monotonic()
    made = lab.Lab(arguments.lab, layout)
    made.up()
    print(*made.machines.values(), sep="\n")
    print(f"{len(made.machines)} hosts in {time.monotonic() - began:.1f} s; ssh: {made.ssh} USER@HOST", file=sys.stderr)


def _down(arguments: argparse.Namespace) -> None:
    lab.remove(arguments.lab)


def _list(arguments: argparse.Namespace) -> None:
    for name in lab.labs():
        print(name, *lab.leftovers(name), sep="\n  ")


def _tree(arguments: argparse.Namespace) -> None:
    print(tree())


def _run(arguments: argparse.Namespace) -> None:
    machine = lab.find(arguments.lab).machine(arguments.host)
    leader = machine.leader()
    if leader is None:
        raise LabError(f"{arguments.host} is off")
    os.execvp("nsenter", ["nsenter", "--all", f"--target={leader}", "--", *arguments.command])


def _power(arguments: argparse.Namespace) -> None:
    machine = lab.find(arguments.lab).machine(arguments.host)
    if arguments.verb == "off":
        machine.stop()
    else:
        machine.start()
        machine.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=lab.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("tree", help="make the tree that hosts start from; its path").set_defaults(do=_tree)
    verbs.add_parser("list", help="the labs that are up, and what there is of them").set_defaults(do=_list)
    up = verbs.add_parser("up", help="make a lab; returns when all hosts have booted")
    up.add_argument("--layout", metavar="JSON", help='{"dc1": ["host", ...], ...}; default: two of three hosts')
    up.set_defaults(do=_up)
    down = verbs.add_parser("down", help="remove a lab, or what is left of it")
    down.set_defaults(do=_down)
    run = verbs.add_parser("run", help="a command on a host, as root")
    power = [verbs.add_parser("off", help="pull a host's plug"), verbs.add_parser("on", help="start it again")]
    for verb in (up, down, run, *power):
        verb.add_argument("lab")
    for verb in (run, *power):
        verb.add_argument("host")
    run.add_argument("command", nargs=argparse.REMAINDER)
    run.set_defaults(do=_run)
    for verb in power:
        verb.set_defaults(do=_power)
    arguments = parser.parse_args()
    try:
        arguments.do(arguments)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
