"""The store on PostgreSQL. Needs psycopg; nothing else of durable imports it."""

try:
    import psycopg as _psycopg
except ImportError as _error:
    _MESSAGE = 'a PostgreSQL database needs psycopg: pip install "durable-sdk[postgres]"'
    raise ImportError(_MESSAGE, name="psycopg") from _error
else:
    del _psycopg

from durable.storage.postgres.store import PostgresStorage

__all__ = ["PostgresStorage"]
