"""The terminal: colour only where it is wanted, tables that fit, glyphs that can be shown."""

from __future__ import annotations

import io

import pytest

from durable.cli.screen import Screen, Styled, cut, display_width, status_cell


class Window(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(screen: Screen) -> list[str]:
    return screen.out.getvalue().splitlines()


def test_a_pipe_gets_neither_colour_nor_cuts(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Screen.of(io.StringIO())
    assert not screen.colour
    assert screen.width is None
    screen.table(["ID"], [["x" * 500]])
    assert shown(screen)[1] == "x" * 500


@pytest.mark.parametrize(
    "environment, colour",
    [
        ({}, True),
        ({"NO_COLOR": ""}, False),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm"}, True),
    ],
)
def test_colour_in_a_window(monkeypatch, environment, colour):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Screen.of(Window()).colour is colour


def test_a_style_is_ended_where_it_began():
    screen = Screen(io.StringIO(), colour=True)
    screen.line("run ", status_cell("failed"), " now")
    assert shown(screen) == ["run \x1b[31mfailed\x1b[0m now"]


def test_columns_stand_under_their_headers():
    screen = Screen(io.StringIO())
    screen.table(["ID", "STATUS"], [["a", Styled("failed", "red")], ["long-id", "ok"]])
    assert shown(screen) == ["ID       STATUS", "a        failed", "long-id  ok"]


def test_colour_moves_no_column():
    plain, coloured = Screen(io.StringIO()), Screen(io.StringIO(), colour=True)
    for screen in (plain, coloured):
        screen.table(["A", "B"], [[Styled("x", "red"), "y"]])
    assert shown(coloured)[1].replace("\x1b[31m", "").replace("\x1b[0m", "") == shown(plain)[1]


def test_in_a_narrow_window_the_widest_column_gives_way():
    screen = Screen(io.StringIO(), width=30)
    screen.table(["ID", "DATA"], [["order-42", "y" * 100]])
    assert shown(screen)[1] == "order-42  yyyyyyyyyyyyyyyyyyy…"


def test_user_text_cannot_break_a_table():
    screen = Screen(io.StringIO())
    screen.table(["ID"], [["a\nb\x1b[2J"]])
    assert shown(screen)[1] == "a b [2J"


def test_glyphs_have_plain_letters_beside_them():
    screen = Screen(io.StringIO(), unicode=False)
    screen.line("✓ ⚡ ██ é ┈")
    assert shown(screen) == ["+ ! ## ? ."]


def test_wide_characters_take_two_columns():
    assert display_width("注文") == 4
    assert display_width("e\u0301") == 1
    assert cut("注文注文", 5) == "注文…"
