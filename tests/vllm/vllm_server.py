"""vLLM's own OpenAI server on the small model, for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY_WITHIN_S = 180.0


@contextmanager
def vllm_server(
    python: str, folder: Path, log: Path, *, rows: int = 64, dtype: str = "auto"
) -> Iterator[str]:
    """Serve ``folder`` as model ``small``; yields the address up to and with ``/v1``.

    Args:
        python: Interpreter of an environment with vLLM.
        folder: The converted model.
        log: Where its output goes.
    """
    port = _free_port()
    options = {
        "--model": str(folder),
        "--served-model-name": "small",
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": dtype,
        "--max-model-len": "4096",
        "--max-num-seqs": str(rows),
        "--block-size": "32",
        "--generation-config": "vllm",
        # As our own engine runs it on a CPU.
        "--max-num-batched-tokens": "4096",
    }
    words = [word for pair in options.items() for word in pair]
    switches = ["--enforce-eager", "--no-enable-chunked-prefill", "--enable-prefix-caching"]
    switches.append("--enable-prompt-tokens-details")
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TORCHDYNAMO_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-m", "vllm.entrypoints.openai.api_server", *words, *switches],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            _await_ready(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            # With its children, which it would leave behind.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _await_ready(process: subprocess.Popen, health: str, log: Path) -> None:
    give_up_at = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(health, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"vLLM's server did not start:\n{log.read_text()[-3000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
