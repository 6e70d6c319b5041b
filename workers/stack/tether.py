"""Starts a program that ends with its parent: ``tether.py SIGNAL PARENT UID GID PROGRAM ...``.

Run by file with ``python -I -S``, so it imports nothing of ours. It gives root up before the
program starts; a uid of -1 keeps the caller's. Only Linux can tie a child to its parent; elsewhere
the program simply starts.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def start(death_signal: int, parent_pid: int, uid: int, gid: int, argv: list[str]) -> None:
    """Become ``argv``; never returns."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After setuid, which clears the tie.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
        # The parent may have died before the tie held.
        if os.getppid() != parent_pid:
            os.kill(os.getpid(), signal.SIGKILL)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    death_signal, parent_pid, uid, gid = (int(word) for word in sys.argv[1:5])
    start(death_signal, parent_pid, uid, gid, sys.argv[5:])
