"""Two corrections of kombu's Redis transport, in force once ``correct_transport`` was called.

Acknowledgements outlive the broker's connection: kombu acknowledges and returns messages also
through a connection that it has just taken apart, and then ends the worker with an
AttributeError. And a channel keeps its client: kombu makes a new one for every command, which
was 7 % of a worker's time. Nothing here decides about messages: what is never acknowledged is
delivered again, and the ledger refuses it.
"""

# kombu is untyped throughout.
# mypy: disable-error-code="no-untyped-call, misc, method-assign"

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual

_new_client = redis.Channel._create_client


class SteadyQoS(redis.QoS):
    """kombu's bookkeeping of unacknowledged messages; without a connection it only forgets."""

    def ack(self, delivery_tag: str) -> None:
        if self._is_connected():
            super().ack(delivery_tag)
        else:
            virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if self._is_connected():
            super().reject(delivery_tag, requeue=requeue)
        else:
            virtual.QoS.ack(self, delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        if self._is_connected():
            super().restore_unacked(client)
        else:
            self._delivered.clear()

    def _is_connected(self) -> bool:
        transport = self.channel.connection
        return transport is not None and transport.client is not None


def _kept_client(channel: Any, asynchronous: bool = False) -> Any:
    """The channel's client for single commands, as long as its pool of connections is the same."""
    if asynchronous:
        # kombu keeps this one itself, and it holds a connection of its own while it waits.
        return _new_client(channel, asynchronous=True)
    kept = getattr(channel, "_kept_client", None)
    if kept is None or kept.connection_pool is not channel.pool:
        kept = channel._kept_client = _new_client(channel)
    return kept


def correct_transport() -> None:
    """Make every Redis connection of this process use them."""
    redis.Channel.QoS = SteadyQoS
    redis.Channel._create_client = _kept_client
