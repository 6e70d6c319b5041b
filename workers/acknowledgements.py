"""Acknowledgements that outlive the broker's connection.

kombu acknowledges and returns messages also through a connection that it has just taken apart,
and then ends the worker with an AttributeError. Nothing here decides about messages: what is
never acknowledged is delivered again, and the ledger refuses it.
"""

# kombu is untyped throughout.
# mypy: disable-error-code="no-untyped-call, misc"

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual


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


def outlive_connections() -> None:
    """Make every Redis connection of this process use them."""
    redis.Channel.QoS = SteadyQoS
