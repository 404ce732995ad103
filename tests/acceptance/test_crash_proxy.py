"""The proxy breaks connections in the ways that it names, and in no other."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

from durable_testing.proxy import Proxy

pytestmark = pytest.mark.crash


@pytest.fixture
def proxy(durable_postgres: str) -> Iterator[Proxy]:
    with psycopg.connect(durable_postgres) as connection:
        connection.execute("CREATE TABLE said (word text)")
    with Proxy(durable_postgres) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy, durable_postgres: str) -> Iterator[psycopg.Connection]:
    connection = psycopg.connect(
        proxy.url(durable_postgres), autocommit=True, application_name="speaker"
    )
    with connection:
        yield connection


def words(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [word for (word,) in connection.execute("SELECT word FROM said").fetchall()]


def say(connection: psycopg.Connection, word: str) -> None:
    connection.execute("INSERT INTO said VALUES (%s)", (word,))


def test_it_passes_everything_on(proxy, through, durable_postgres):
    say(through, "hello")
    many = through.execute("SELECT repeat('x', 1000) FROM generate_series(1, 3000)").fetchall()
    assert len(many) == 3000
    assert words(durable_postgres) == ["hello"]
    assert proxy.accepted == 1


@pytest.mark.parametrize("prepare", [False, True])
def test_an_answer_is_cut_after_the_statement_was_executed(
    proxy, through, durable_postgres, prepare
):
    cut = proxy.cut_answer(lambda asked: asked.application == "speaker" and "INSERT" in asked.text)
    through.execute("SELECT 1")
    assert not cut.made
    with pytest.raises(psycopg.OperationalError):
        through.execute("INSERT INTO said VALUES (%s)", ("unheard",), prepare=prepare)
    assert cut.wait(5)
    assert cut.statement is not None
    assert cut.statement.text.startswith("INSERT")
    assert words(durable_postgres) == ["unheard"]


def test_a_commit_is_cut_after_it_was_done(proxy, through, durable_postgres):
    proxy.cut_answer(lambda asked: asked.text == "COMMIT")
    with pytest.raises(psycopg.OperationalError), through.transaction():
        say(through, "committed")
    assert words(durable_postgres) == ["committed"]


def test_an_error_is_delivered_and_the_cut_waits_on(proxy, through):
    cut = proxy.cut_answer(lambda asked: "INSERT" in asked.text)
    with pytest.raises(psycopg.errors.UndefinedTable):
        through.execute("INSERT INTO nowhere VALUES (1)")
    assert not cut.made
    with pytest.raises(psycopg.OperationalError):
        say(through, "cut")
    assert cut.made


def test_a_cut_that_was_withdrawn_is_not_made(proxy, through, durable_postgres):
    proxy.withdraw(proxy.cut_answer(lambda asked: True))
    say(through, "heard")
    assert words(durable_postgres) == ["heard"]


def test_connections_are_reset_by_name(proxy, through, durable_postgres):
    with psycopg.connect(proxy.url(durable_postgres), application_name="listener") as other:
        assert proxy.reset("listen") == 1
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")
    say(through, "still here")


def test_a_black_hole_swallows_until_it_is_healed(proxy, durable_postgres):
    url = proxy.url(durable_postgres)
    proxy.black_hole()
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        psycopg.connect(url, connect_timeout=2)
    proxy.heal()
    with psycopg.connect(url, autocommit=True) as connection:
        say(connection, "healed")
    assert words(durable_postgres) == ["healed"]


def test_it_can_be_slow(proxy, through):
    proxy.delay(0.1)
    began = time.monotonic()
    through.execute("SELECT 1")
    assert time.monotonic() - began >= 0.2
    proxy.heal()
