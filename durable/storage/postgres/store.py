"""The store on PostgreSQL: every verb of the port, from the rooms beside this file."""

from __future__ import annotations

from durable.storage.postgres.claims import Claims
from durable.storage.postgres.commits import Commits
from durable.storage.postgres.hints import Hints
from durable.storage.postgres.leases import Leases
from durable.storage.postgres.messages import Messages
from durable.storage.postgres.readings import Readings


class PostgresStorage(Claims, Commits, Hints, Leases, Messages, Readings):
    """`Storage` for PostgreSQL 13 and newer. `schema` is the database schema that holds the tables.

    `?pooler=transaction` in the URL says that a pooler in transaction mode stands between: then
    nothing is prepared, and there are no hints.
    """
