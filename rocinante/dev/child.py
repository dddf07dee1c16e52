"""Starts a program that dies with its parent: `python child.py PARENT-PID DESCRIPTOR PROGRAM ARGUMENT…`.

The kernel sends SIGKILL to it when the thread that started it ends (PR_SET_PDEATHSIG, prctl(2)), even when that was
killed with `kill -9`; SIGKILL, because a stopped process (SIGSTOP) would not act on any other signal, and a node is
made to survive it. The setting outlives the `execve` below. Run as a script with `-I -S`, so it imports nothing of
ours and takes 10 ms.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, descriptor, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise SystemExit(f"prctl: {os.strerror(ctypes.get_errno())}")
    # The parent may have died before the setting was there.
    if os.getppid() != int(parent):
        raise SystemExit("the parent is gone")
    os.set_inheritable(int(descriptor), False)  # the parent sees it closed: from here on the setting holds
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
