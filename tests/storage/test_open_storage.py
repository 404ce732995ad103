from __future__ import annotations

import os
from pathlib import Path

import pytest

from durable.storage import open_storage
from durable.storage.sqlite import SqliteStorage


@pytest.mark.parametrize(
    "url,message",
    [
        ("", "URL"),
        ("runs.db", "URL"),
        ("mysql://root:secret@host/db", "mysql"),
        ("sqlite://host/path.db", "slashes"),
        ("sqlite:///x.db?mode=ro", "nothing else"),
        ("sqlite:///x.db#part", "nothing else"),
        ("sqlite:/x.db", "slashes"),
        ("sqlite:x.db", "slashes"),
        ("sqlite:", "slashes"),
        ("sqlite\t:///x.db", "slashes"),
        (" sqlite:///x.db", "slashes"),
        ("sqlite:///a\tb.db", "control"),
        ("sqlite:///x.db\n", "control"),
        ("sqlite:///a%00.db", "control"),
        ("sqlite:///a%0A.db", "control"),
        ("sqlite:///a%C2%85.db", "control"),
        ("sqlite:///\ud800.db", "surrogates"),
        ("postgresql+asyncpg://root:secret@host/db", "no store"),
    ],
)
def test_other_urls_are_refused(url: str, message: str):
    """With what is possible, and without the password."""
    with pytest.raises(ValueError, match=message) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)


async def test_urls_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "with space").mkdir()
    found = set()
    for url, file in [
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:///with%20space/x.db", "with space/x.db"),
        ("sqlite:///with space/ü%C3%BC.db", "with space/üü.db"),
        ("sqlite:///a%23b%3F100%25.db", "a#b?100%.db"),
        ("sqlite:///100%.db", "100%.db"),
        ("SQLite:///case.db", "case.db"),
        (f"sqlite:///{tmp_path}/absolute.db", "absolute.db"),
    ]:
        store = open_storage(url)
        await store.open()
        await store.close()
        found.add(file)
    store = open_storage("sqlite://")
    await store.open()
    await store.close()
    on_disk = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.db")}  # noqa: ASYNC240
    assert on_disk == found


@pytest.mark.parametrize("url", ["sqlite:///bytes%FF.db", "sqlite:///bytes\udcff.db"])
def test_a_path_that_is_no_text(url: str):
    """It is the bytes that are meant, as from the command line; what is said about it can be printed."""
    store = open_storage(url)
    assert isinstance(store, SqliteStorage)
    assert store._path == Path(os.fsdecode(b"bytes\xff.db")).absolute()
    assert "bytes\\udcff.db" in store._where


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch):
    """With what to install."""
    import sys

    for name in list(sys.modules):
        if name.partition(".")[0] == "psycopg" or name.startswith("durable.storage.postgres"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"pip install 'durable-sdk\[postgres\]'"):
        open_storage("postgresql://user:secret@host/db")
