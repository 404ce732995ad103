"""What an error of PostgreSQL means to the callers of a store: psycopg's own never leave this room."""

from __future__ import annotations

from typing import Final

import psycopg

from durable.errors import DurableError, InvalidInput, PayloadError, StoreUnavailable

RETRY: Final = frozenset({"40001", "40P01", "55P03"})
"""Nothing happened, and the next try may do: serialization, deadlock, lock timeout."""
_DATA: Final = ("22", "23", "54")
"""Classes of errors that are in the rows themselves: they come again however often one tries."""
_TYPES: Final = frozenset({"42804", "42846", "42P18"})
"""A parameter is of another type than the statement's."""
_NO_FUNCTION: Final = "42883"
"""No such function, or no such operator for these types."""
_MISSING: Final = ("42", "3F")
"""What the statement speaks of is not there, or not for this user."""
_STALE: Final = frozenset({"25006", "0A000", "26000", "42P05"})
"""This connection is of no use any more: a server turned read-only, plans of an older schema."""


def sqlstate(error: psycopg.Error) -> str:
    """The five characters, or nothing when the error did not come from the server."""
    return error.sqlstate or ""


def may_retry(error: psycopg.Error) -> bool:
    """Whether the same statement, for certain without effect so far, may be sent again."""
    return sqlstate(error) in RETRY


def in_data(error: psycopg.Error) -> bool:
    """Whether the rows are to blame."""
    return sqlstate(error).startswith(_DATA) or (
        isinstance(error, psycopg.DataError) and not error.sqlstate
    )


def is_stale(error: psycopg.Error) -> bool:
    """Whether a new connection may do where this one cannot."""
    return sqlstate(error) in _STALE


def in_types(error: psycopg.Error) -> bool:
    """Whether a parameter is of a type that has no place there: that comes again however often one tries.

    Not so a table or a function that is missing: somebody may bring it back.
    """
    code = sqlstate(error)
    if code == _NO_FUNCTION:
        return str(error).startswith("operator ")  # `text = uuid`: a comparison with a parameter
    return code in _TYPES or (isinstance(error, psycopg.ProgrammingError) and not code)


def _is_missing(error: psycopg.Error) -> bool:
    return sqlstate(error).startswith(_MISSING) and not is_stale(error)


def translate(error: Exception, where: str) -> DurableError:
    """The error as callers see it, in one line."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, psycopg.Error) and in_data(error):
        return PayloadError(f"{where} refuses the data: {reason}")
    if isinstance(error, psycopg.Error) and in_types(error):
        return InvalidInput(f"{where} was given a value of a wrong type: {reason}")
    if isinstance(error, psycopg.Error) and _is_missing(error):
        advice = "have its tables been dropped, or may this user not use them?"
        return StoreUnavailable(f"{where} cannot be used: {reason}: {advice}")
    return StoreUnavailable(f"{where} does not answer: {reason}")
