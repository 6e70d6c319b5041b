"""What a stack consists of, as a value: its parts, their order, how each is known to be ready.

The plan goes to the supervisor through a file; nothing here starts anything.
"""

from __future__ import annotations

import signal
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import StackError
from workers.stack.accounts import Account
from workers.stack.layout import Layout
from workers.stack.places import private_file
from workers.stack.postgres import connection_problem
from workers.stack.valkey import ping_problem

#: Servers start first; the ledger's tables come next; all else needs both.
SERVERS, TABLES, PROGRAMS = 0, 1, 2


class Ready(BaseModel):
    """When a part counts as ready.

    Attributes:
        kind: ``file``: it wrote the file named by its PRECEPTOR_READY_FILE. ``exit``: it ended
            with status 0. ``postgres``, ``redis``, ``http``: the server at ``address`` answers.
        address: Address to ask; empty for ``file`` and ``exit``.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["file", "exit", "postgres", "redis", "http"]
    address: str = ""

    def problem(self, ready_file: Path) -> str | None:
        """Why the part is not ready; None when it is. ``exit`` is judged by its status alone."""
        match self.kind:
            case "postgres":
                return connection_problem(self.address)
            case "redis":
                return ping_problem(self.address)
            case "http":
                return _http_problem(self.address)
            case "file":
                return None if ready_file.exists() else "it has not reported ready"
            case "exit":
                return "it has not ended"


class Part(BaseModel):
    """One process of a stack.

    Attributes:
        name: Name in messages and of its log, unique in the plan.
        argv: Program and arguments.
        ready: When it counts as ready.
        stage: It starts when all parts of lower stages are ready and stops before them.
        env: Environment variables added to the caller's.
        inherits_env: Whether the caller's environment is passed on at all.
        account: User it runs as; None for ours.
        cwd: Folder it runs in; None for the plan's.
        address: Where people find it; shown, never used.
        start_s: Seconds it may take to become ready.
        stop_signal: Signal that asks it to end in good order.
        stop_s: Seconds it may take to end before it is killed.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    argv: tuple[str, ...]
    ready: Ready
    stage: int = PROGRAMS
    env: dict[str, str] = Field(default_factory=dict)
    inherits_env: bool = True
    account: Account | None = None
    cwd: Path | None = None
    address: str = ""
    start_s: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 20.0


class Plan(BaseModel):
    """A whole stack.

    Attributes:
        parts: Its processes.
        database_url: The ledger, started by us or not.
        redis_url: The broker, started by us or not.
        flower_url: The monitor, or None.
        flower_user: Its user.
        flower_password: Its password.
        servers_folder: Folder of the servers' data; None where we start none.
        config_path: The run configuration whose models are served; None for none.
        config_digest: SHA-256 of that file when the plan was made.
        cwd: Folder the parts run in where they name none.
    """

    model_config = ConfigDict(frozen=True)

    parts: tuple[Part, ...]
    database_url: str
    redis_url: str
    flower_url: str | None = None
    flower_user: str | None = None
    flower_password: str | None = None
    servers_folder: Path | None = None
    config_path: Path | None = None
    config_digest: str | None = None
    cwd: Path

    def starts_the_same_as(self, other: Self) -> bool:
        """Whether both start the same processes, whatever folder they were asked from."""
        return self == other.model_copy(update={"cwd": self.cwd})


def write_plan(layout: Layout, plan: Plan) -> None:
    """Keep ``plan`` for the supervisor; the file holds passwords, so only its owner may read it."""
    private_file(layout.plan_file, plan.model_dump_json(indent=2))


def read_plan(layout: Layout) -> Plan:
    """The plan of the last start.

    Raises:
        StackError: There is none, or it is damaged.
    """
    try:
        return Plan.model_validate_json(layout.plan_file.read_text())
    except (FileNotFoundError, ValidationError) as error:
        raise StackError(
            f"{layout.plan_file} is missing or damaged: run 'preceptor local up' again"
        ) from error


def _http_problem(address: str) -> str | None:
    parts = urlsplit(address)
    # Straight to loopback: a proxy named in the environment must not be asked.
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", parts.path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return None if status == 200 else f"it answers with HTTP status {status}"
