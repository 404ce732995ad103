"""What lies in an inbox becomes exactly one history event, whatever its name holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.model import history, messages
from durable.model.events import Event, checked_event_name
from durable.model.rows import Message
from durable.model.wire import decode_event, encode_event

AT = 17
ODD = ["paid", "a:b", ":", "::3:", "1:2:3", "~x", "ünï", "\ud800", "", "a" * 300]


def read(name: str, data: bytes = b"\x01\xc0", number: int = 5) -> history.Event:
    """The event of a message, as it is read back from the history."""
    event = messages.event_of(Message(1, number, name, data), AT)
    return decode_event(encode_event(1, event))


@pytest.mark.parametrize("name", [name for name in ODD if not name.startswith("~")])
def test_an_event_from_outside_keeps_its_name(name: str):
    """Names with colons, lone surrogates and none at all are events like others."""
    assert read(name) == history.EventReceived(AT, name, b"\x01\xc0", 5)


@pytest.mark.parametrize("name", ["~", "~new", "~new:1:2", "~~child:1:2", "~Cancel", "~cancel2"])
def test_an_unknown_message_of_durable_is_kept_and_of_no_effect(name: str):
    """Each becomes exactly one event, an unknown one from a newer version too."""
    assert read(name) == history.EventReceived(AT, name, b"\x01\xc0", 5)


@pytest.mark.parametrize("key", ODD)
@pytest.mark.parametrize("name", ODD)
def test_a_publication_keeps_key_and_name(key: str, name: str):
    """`~published:<number>:<length of key>:<key><name>`, whatever key and name hold."""
    event = read(messages.published_message(12, key, name))
    assert event == history.EventReceived(AT, name, b"\x01\xc0", 5, key, 12)


@given(st.integers(0, 2**40), st.text(), st.text())
def test_any_key_and_any_name(number: int, key: str, name: str):
    """There is no pair of key and name that reads back as another pair."""
    event = read(messages.published_message(number, key, name))
    assert isinstance(event, history.EventReceived)
    assert (event.topic_number, event.key, event.name) == (number, key, name)


@pytest.mark.parametrize("by", [None, "", "ann", "\ud800:"])
@pytest.mark.parametrize("name", ODD)
def test_an_answer_keeps_its_question_and_who_gave_it(name: str, by: str | None):
    """`~input:<cmd>:<name>` with the payload and who answered."""
    data = messages.pack_input(b"\x01\xa1x", by)
    event = read(messages.input_message(31, name), data)
    assert event == history.InputProvided(AT, 31, name, b"\x01\xa1x", by, 5)


@pytest.mark.parametrize("name", ODD)
def test_a_request_keeps_its_name(name: str):
    """`~request:<name>`."""
    event = read(messages.request_message(name), b"\x01\x03")
    assert event == history.RequestReceived(AT, name, b"\x01\x03", 5)


@pytest.mark.parametrize("name", ODD)
def test_the_end_of_a_wait_keeps_its_name(name: str):
    """`~end-wait:<name>`, which has no data."""
    assert read(messages.end_wait_message(name), b"") == history.WaitCancelled(AT, name, 5)


@pytest.mark.parametrize("reason", [None, "", "a: b", "\ud800"])
def test_a_cancel_keeps_its_reason(reason: str | None):
    """`~cancel` with its reason."""
    event = read(messages.CANCEL, messages.pack_cancel(reason))
    assert event == history.CancelRequested(AT, reason, 5)


def test_pause_resume_and_followers():
    """The rest of durable's own."""
    assert read(messages.PAUSE) == history.Paused(AT, 5)
    assert read(messages.RESUME) == history.Resumed(AT, 5)
    assert read(messages.follow_message(17, 3)) == history.FollowerAdded(AT, "17:3", 5)


@pytest.mark.parametrize(
    "end, event",
    [
        (history.RunCompleted(1, b"r"), history.ChildCompleted(AT, 4, b"r", 5)),
        (history.RunFailed(1, b"f"), history.ChildFailed(AT, 4, "failed", b"f", None, 5)),
        (
            history.RunFailed(1, b"f", "compensated"),
            history.ChildFailed(AT, 4, "compensated", b"f", None, 5),
        ),
        (history.RunCancelled(1, "r"), history.ChildFailed(AT, 4, "cancelled", None, "r", 5)),
        (history.RunTerminated(1, "r"), history.ChildFailed(AT, 4, "terminated", None, "r", 5)),
    ],
)
def test_the_end_of_a_child(end: history.Event, event: history.Event):
    """`~child:<cmd>:<type>` with the data of its last event."""
    row = encode_event(9, end)
    assert read(messages.child_message(4, row.type), row.data) == event


@pytest.mark.parametrize("name", ["", "~", "~cancel", "a" * 256, "a\nb", "\ud800", "\x00"])
def test_what_no_event_of_a_user_may_be_called(name: str):
    """Not empty, at most 255 characters, printable, not beginning with "~"."""
    with pytest.raises(ValueError, match="name of an event"):
        checked_event_name(name)
    with pytest.raises(ValueError, match="name of an event"):
        Event(name)
