"""Events under a correlation key: kept for a while, and given once to every run that waits for them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from durable.model.messages import published_message
from durable.model.rows import Publication, Subscription
from durable.storage.sqlite.connection import Database, refuse_nul
from durable.storage.sqlite.messaging import Post, number_of, post, remember

_KNOWN: Final = """
SELECT n FROM [publications] WHERE key = ? AND name = ? AND idem = ? AND until >= ? ORDER BY n"""
_KEEP: Final = """
INSERT INTO [publications] (name, key, data, until, idem) VALUES (?, ?, ?, ?, ?) RETURNING n"""
_WAITING: Final = """
SELECT run_key, min(subscribed) FROM [waits] w INDEXED BY [waits_key]
WHERE key = ? AND EXISTS (SELECT 1 FROM json_each(w.names) x WHERE x.value = ?)
GROUP BY run_key ORDER BY run_key"""
_SUBSCRIBED: Final = """
UPDATE [waits] SET subscribed = 1 WHERE run_key = ? AND +key = ? AND NOT EXISTS (
    SELECT 1 FROM json_each(names) x WHERE x.value NOT IN (SELECT value FROM json_each(?)))"""
"""The plus: a run has few waits, and a key may have those of all runs."""

_KEPT: Final = """
SELECT n, name, key, data FROM [publications]
WHERE key = ? AND name = ? AND until >= ? ORDER BY n"""
_REACHED: Final = "SELECT reached FROM [publications] WHERE n = ?"
_COUNT: Final = "UPDATE [publications] SET reached = reached + ? WHERE n = ?"
_HEAD: Final = "SELECT inbox_head FROM [runs] WHERE key = ? AND finished_at IS NULL"
_FORGET: Final = """
DELETE FROM [publications] WHERE n IN (
    SELECT n FROM [publications] WHERE until < ? ORDER BY until LIMIT ?)"""

_Kept = tuple[int, str, str, bytes]
"""Number, name, key and data of a publication."""

_AT_ONCE: Final = 20
"""How many old publications go with each new one's call."""

IN_A_SWEEP: Final = 1000
"""How many go with each look for lost workers."""


def publish(database: Database, now: int, publications: Sequence[Publication]) -> list[int]:
    """Keep events and give them to whoever waits now; how many runs have had each."""
    for publication in publications:
        refuse_nul("event", (publication.name, publication.key, publication.idempotency_key))
    numbers = [_keep(database, now, publication) for publication in publications]
    reached = [int(database.fetch(_REACHED, (n,))[0][0]) for n in numbers]
    forget(database, now, _AT_ONCE)
    return reached


def _keep(database: Database, now: int, publication: Publication) -> int:
    """The number of a publication, new or known; a new one is given to the runs that wait for it."""
    topic = (publication.key, publication.name)
    idempotency_key = publication.idempotency_key
    known = idempotency_key and database.one(_KNOWN, (*topic, idempotency_key, now))
    if known:
        return int(known[0])
    data, until = publication.data, publication.until
    row = (publication.name, publication.key, data, until, idempotency_key)
    ((n,),) = database.fetch(_KEEP, row)
    new: _Kept = (n, publication.name, publication.key, data)
    pairs: list[tuple[int, _Kept]] = []
    for run, subscribed in database.fetch(_WAITING, topic):
        # A wait that has not had what was kept before it gets that first: nothing overtakes.
        before = () if subscribed else database.fetch(_KEPT, (*topic, now))
        pairs += [(run, one) for one in (*(kept for kept in before if kept[0] != n), new)]
        database.execute(_SUBSCRIBED, (run, publication.key, json.dumps([publication.name])))
    _hand_out(database, now, pairs)
    return int(n)


def subscribe(database: Database, now: int, subscriptions: Sequence[Subscription]) -> None:
    """Give runs what is kept for their waits and what they have not had yet."""
    pairs = {
        (subscription.run, kept)
        for subscription in subscriptions
        for name in subscription.names
        for kept in database.fetch(_KEPT, (subscription.key, name, now))
    }
    _hand_out(database, now, sorted(pairs))
    for subscription in subscriptions:
        names = json.dumps(list(subscription.names))
        database.execute(_SUBSCRIBED, (subscription.run, subscription.key, names))


def _hand_out(database: Database, now: int, pairs: Iterable[tuple[int, _Kept]]) -> None:
    """Put publications into the inboxes of open runs, each once."""
    posts: list[Post] = []
    reached: Counter[int] = Counter()
    heads: dict[int, int | None] = {}
    for run, (n, name, key, data) in pairs:
        if run not in heads:
            found = database.one(_HEAD, (run,))
            heads[run] = found[0] if found else None
        head = heads[run]
        token = f"~pub:{n}"
        if head is None or number_of(database, run, token) is not None:
            continue
        heads[run] = head + 1
        posts.append(Post(run, published_message(n, key, name), data))
        remember(database, now, run, token, head + 1)
        reached[n] += 1
    post(database, now, posts)
    for n, count in reached.items():
        database.execute(_COUNT, (count, n))


def forget(database: Database, now: int, limit: int) -> None:
    """Delete some publications whose time is over."""
    database.execute(_FORGET, (now, limit))
