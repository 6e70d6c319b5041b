"""vLLM's own processes: told where to run, and tied to the worker that started them.

vLLM computes in child processes and leaves them behind, with the model's memory, when their
parent is killed. They load this module as a plugin and ask the kernel to end them with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PARENT = "PRECEPTOR_VLLM_PARENT"


def prepare(threads: int | None) -> None:
    """Set what vLLM reads from the environment. Called before vLLM is imported.

    Variables that are set already win.

    Args:
        threads: CPU threads that compute; None for all that this process may use.
    """
    defaults = {
        # What this process has started (threads, a metrics server) must not be forked.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    if threads is not None and hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))[:threads]
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ[_PARENT] = str(os.getpid())


def without_compiler() -> None:
    """Keep vLLM's processes from compiling: a first distribution took 11 s of it on two cores.

    For a model that is not compiled either.
    """
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def tie_to_parent() -> None:
    """End this process with its parent, where it is a child of a worker of ours.

    vLLM calls it in each of its processes (entry point ``vllm.general_plugins``).
    """
    parent = os.environ.get(_PARENT)
    if parent is None or parent == str(os.getpid()) or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1 and parent != "1":
        # It died before the tie held.
        os.kill(os.getpid(), signal.SIGKILL)
