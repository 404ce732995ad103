"""Comments that ignore, files that cannot be read, and which files are taken."""

from __future__ import annotations

import pytest

from durable.lint import DEFAULT, RULES, lint_file, lint_source, python_files

HEAD = "import time\nfrom durable import Context, workflow\n@workflow\nasync def f(ctx: Context):\n"


def found(body: str, *, unused: bool = False) -> list[tuple[int, str]]:
    """Line (1: the first of the body) and code of what is found."""
    select = RULES if unused else DEFAULT
    return [(each.line - 4, each.code) for each in lint_source(HEAD + body, "shop.py", select)]


# -- ignoring


@pytest.mark.parametrize(
    "comment",
    [
        "# durable: ignore",
        "# durable: ignore[DUR101]",
        "# durable: ignore[DUR302, DUR101]",
        "# durable: ignore[DUR101]  because we know better",
        "# because we know better  # durable: ignore[DUR101]",
        "# noqa: DTZ005  # durable:ignore[DUR101]",
        "#durable: ignore[ DUR101 ]",
    ],
)
def test_a_comment_on_the_line_ignores(comment):
    assert found(f"  time.time()  {comment}") == []


@pytest.mark.parametrize(
    "comment",
    [
        "# durable: ignore[DUR102]",
        "# durable: ignore[]",
        "# durable: ignore[DUR101",
        "# durable: ignored",
        "# durable: ignore-next",
        "# endurable: ignore",
        "# Durable: ignore",
    ],
)
def test_other_comments_do_not(comment):
    assert found(f"  time.time()  {comment}") == [(1, "DUR101")]


def test_a_text_that_looks_like_a_comment_does_not():
    assert found("  print('# durable: ignore', time.time())") == [(1, "DUR101")]


@pytest.mark.parametrize(
    "body",
    [
        "  print(  # durable: ignore[DUR101]\n    1,\n    time.time(),\n  )",
        "  print(\n    1,\n    time.time(),\n  )  # durable: ignore[DUR101]",
        "  print(\n    1,\n    time.time(),  # durable: ignore[DUR101]\n  )",
        "  if (  # durable: ignore[DUR101]\n    time.time()\n  ):\n    pass",
        "  if (\n    time.time()\n  ):  # durable: ignore[DUR101]\n    pass",
        "  try:\n    await ctx.sleep(1)\n  except:  # durable: ignore[DUR401]\n    pass",
        "  for x in [  # durable: ignore\n    time.time(),\n  ]:\n    pass",
    ],
)
def test_a_comment_speaks_for_the_whole_statement(body):
    assert found(body) == []


@pytest.mark.parametrize(
    "body, line",
    [
        ("  print(1)  # durable: ignore\n  time.time()", 2),
        ("  if ctx:\n    time.time()\n    pass  # durable: ignore", 2),
        ("  if ctx:  # durable: ignore\n    time.time()", 2),
        ("  while time.time():\n    pass  # durable: ignore", 1),
        ("  # durable: ignore\n  time.time()", 2),
    ],
)
def test_a_comment_speaks_for_no_other_statement(body, line):
    assert found(body) == [(line, "DUR101")]


@pytest.mark.parametrize(
    "comment, message",
    [
        ("# durable: ignore", "`# durable: ignore`"),
        ("# durable: ignore[DUR102]", "`# durable: ignore[DUR102]`"),
        ("# durable: ignore[DUR777]", "`# durable: ignore[DUR777]`"),
        ("# durable: ignore[]", "`# durable: ignore[]`"),
    ],
)
def test_a_comment_that_ignores_nothing_is_found_where_asked_for(comment, message):
    body = f"  print(1)  {comment}"
    assert found(body) == []
    (each,) = lint_source(HEAD + body, "shop.py", RULES)
    assert (each.code, each.line, each.column) == ("DUR901", 5, 13)
    assert each.message.startswith(message)


def test_of_several_codes_those_that_ignore_nothing_are_named():
    (each,) = lint_source(f"{HEAD}  time.time()  # durable: ignore[DUR101, DUR302]", "x.py", RULES)
    assert each.message.startswith("`# durable: ignore[DUR302]`")
    assert found("  time.time()  # durable: ignore[DUR101]", unused=True) == []


# -- places


def test_columns_count_characters_from_one():
    (each,) = lint_source(f"{HEAD}  print('größe', time.time())", "shop.py")
    assert (each.line, each.column, each.end_line, each.end_column) == (5, 18, 5, 29)
    assert str(each).startswith("shop.py:5:18: DUR101 `time.time()` reads the wall clock")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_newline_is_one(newline):
    body = "  x = 'a'\n  time.time()\n  time.time()  # durable: ignore\n"
    (each,) = lint_source((HEAD + body).replace("\n", newline).encode(), "shop.py")
    assert each.line == 6


def test_findings_come_in_the_order_of_the_source():
    assert found("  ctx.sleep(time.time())\n  time.time()") == [
        (1, "DUR301"),
        (1, "DUR101"),
        (2, "DUR101"),
    ]


# -- what cannot be read


@pytest.mark.parametrize(
    "content, place",
    [
        (b"x = 1\ndef f(:\n", (2, 7)),
        (b"x = (1,\n", (1, 5)),
        (b"x = '\xff'\n", (1, 1)),
        (b"# coding: klingon\n", (1, 1)),
        (b"x = 1\0\n", (1, 1)),
        (b"x = " + b"(" * 500 + b")" * 500, (1, 1)),
        (b"x = " + b"-" * 100_000 + b"1", (1, 1)),
    ],
    ids=["syntax", "open", "bytes", "encoding", "null", "parentheses", "minus"],
)
def test_a_file_that_cannot_be_parsed_is_a_finding(tmp_path, content, place):
    path = tmp_path / "odd.py"
    path.write_bytes(content)
    (each,) = lint_file(path)
    assert (each.code, each.path) == ("DUR900", str(path))
    if place != (1, 1):
        assert (each.line, each.column) == place


def test_a_file_that_cannot_be_opened_is_a_finding(tmp_path):
    (each,) = lint_file(tmp_path / "missing.py")
    assert "No such file" in each.message


@pytest.mark.parametrize(
    "content", [b"", b"\xef\xbb\xbfx = 1", b"# coding: latin-1\nx = '\xff'", b"x = '\\d'"]
)
def test_odd_files_are_read(tmp_path, content):
    path = tmp_path / "odd.py"
    path.write_bytes(content)
    assert lint_file(path) == []


# -- which files


def test_directories_are_searched_and_what_is_not_source_is_left_out(tmp_path):
    names = [
        "b.py",
        "a.py",
        "sub/c.py",
        "note.txt",
        ".hidden/d.py",
        "__pycache__/e.py",
        "build/f.py",
    ]
    names += [".venv/g.py", "env/lib/h.py", "env/pyvenv.cfg", "node_modules/i.py", "sub/.j.py"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    taken = [path.relative_to(tmp_path).as_posix() for path in python_files([tmp_path])]
    assert taken == ["a.py", "b.py", "sub/.j.py", "sub/c.py"]


def test_what_is_named_is_taken_once_whatever_it_is_called(tmp_path):
    (tmp_path / "script").touch()
    (tmp_path / "a.py").touch()
    paths = [tmp_path / "script", tmp_path, tmp_path / "a.py"]
    assert [path.name for path in python_files(paths)] == ["script", "a.py"]


def test_a_circle_of_links_is_no_way_in(tmp_path):
    (tmp_path / "a.py").touch()
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert [path.name for path in python_files([tmp_path])] == ["a.py"]
