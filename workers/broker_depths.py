"""How many messages Redis holds, by queue and priority, and how many are being worked on.

Reads lengths only: never a message, never a key that is not ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from schemas.broker import redis_client
from schemas.errors import BrokerError
from schemas.settings import Settings

#: A queue is one list per priority: the first under its plain name, the others under a suffix.
PRIORITIES = (0, 3, 6, 9)
_SEPARATOR = "\x06\x16"
#: Longest wait for an answer: a Redis that hangs must not hold up the mending.
ANSWER_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Depths:
    """Lengths read at one moment.

    Attributes:
        waiting: Messages by queue and priority.
        unacked: Messages of all queues that a worker took and has not finished; those of a killed
            worker stay among them for hours.
    """

    waiting: Mapping[tuple[str, int], int]
    unacked: int

    def waiting_in(self, queue: str) -> int:
        """Messages of a queue that no worker has taken."""
        return sum(self.waiting.get((queue, priority), 0) for priority in PRIORITIES)


class BrokerDepths:
    """Reads the lengths of our queues.

    Args:
        client: Connected to the broker's database.
        key_prefix: Prefix of all our keys.
    """

    def __init__(self, client: Redis, key_prefix: str) -> None:
        self._client = client
        self._prefix = key_prefix

    def read(self, queues: Iterable[str]) -> Depths:
        """Lengths of these queues, in one round trip.

        Raises:
            BrokerError: Redis is out of reach or does not answer.
        """
        places = [(queue, priority) for queue in queues for priority in PRIORITIES]
        pipeline = self._client.pipeline(transaction=True)
        for queue, priority in places:
            pipeline.llen(f"{self._prefix}{list_name(queue, priority)}")
        pipeline.hlen(f"{self._prefix}unacked")
        try:
            *lengths, unacked = pipeline.execute()
        except RedisError as error:
            raise BrokerError(f"cannot read the lengths of the queues: {error}") from error
        return Depths(dict(zip(places, lengths, strict=True)), unacked)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def list_name(queue: str, priority: int) -> str:
    """Name of the list that holds a queue's messages of one priority, without our prefix."""
    return f"{queue}{_SEPARATOR}{priority}" if priority else queue


def open_depths(settings: Settings) -> BrokerDepths:
    """A reader for the broker that the settings name. It connects on first use.

    Raises:
        ConfigError: No broker is known, or its address is of no kind that we know.
    """
    client = redis_client(
        settings,
        socket_timeout=ANSWER_WITHIN_S,
        socket_connect_timeout=ANSWER_WITHIN_S,
        retry=Retry(NoBackoff(), 0),
    )
    return BrokerDepths(client, settings.key_prefix)
