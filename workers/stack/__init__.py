"""The local stack: the real servers and workers of one machine, started and kept alive.

It starts processes and knows nothing of jobs. ``postgres_server`` and ``valkey_server`` lend single
servers to tests and demonstrations; ``preceptor local`` runs the whole stack.
"""

from workers.stack.postgres import PostgresServer, postgres_server
from workers.stack.valkey import ValkeyServer, valkey_server

__all__ = ["PostgresServer", "ValkeyServer", "postgres_server", "valkey_server"]
