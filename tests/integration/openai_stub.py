"""A server that speaks enough of the OpenAI protocol to misbehave on demand.

For the error paths only; what a real server answers is tested on a real one.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One answer: a status with headers, or a completion; ``delay_s`` comes first."""

    text: str = "Fine."
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    top: dict[str, float] | None = None
    #: After the first token of ``top``; none where the answer ends there.
    second: dict[str, float] | None = None
    finish_reason: str = "stop"
    usage: dict[str, Any] | None = field(
        default_factory=lambda: {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    )
    delay_s: float = 0.0
    drop: bool = False

    def body(self) -> dict[str, Any]:
        if self.status != 200:
            return {"error": {"message": "scripted", "type": "x", "code": None, **self.error}}
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": self.finish_reason,
            "message": {"role": "assistant", "content": self.text},
            "logprobs": None,
        }
        if self.top is not None:
            tops = [_alternatives(each) for each in (self.top, self.second or {}) if each]
            content = [{**first, "top_logprobs": [first, *rest]} for first, *rest in tops]
            choice["logprobs"] = {"content": content}
        return {
            "id": "c",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
            "usage": self.usage,
        }


def _alternatives(masses: dict[str, float]) -> list[dict[str, Any]]:
    return [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in masses.items()]


class Stub:
    """What the server does next, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.models: list[dict[str, Any]] = [
            {"id": "m", "object": "model", "created": 0, "owned_by": "somebody"}
        ]
        self.models_status = 200
        self.replies: deque[Reply] = deque()
        self.usual = Reply()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.inside = 0
        self.most_inside = 0
        self.lock = threading.Lock()

    def next_reply(self, body: dict[str, Any], key: str | None) -> Reply:
        with self.lock:
            self.asked.append(body)
            self.keys.append(key)
            return self.replies.popleft() if self.replies else self.usual

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self.lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1


@contextmanager
def open_stub() -> Iterator[Stub]:
    """Serve on a free port of the loopback address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            body = {"object": "list", "data": stub.models}
            self.answer(stub.models_status, {}, body)

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["content-length"])))
            reply = stub.next_reply(content, self.headers["authorization"])
            with stub.busy():
                time.sleep(reply.delay_s)
            if reply.drop:
                self.close_connection = True
                self.connection.close()
                return
            self.answer(reply.status, reply.headers, reply.body())

        def answer(self, status: int, headers: dict[str, str], body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                # The client gave up, as some tests want it to.
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    stub = Stub(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
