"""What lives on from one generation of a run to the next."""

from __future__ import annotations

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from durable.model.carried import Carried, CarriedChild, pack_carried, unpack_carried
from durable.model.history import EventReceived, RequestReceived, RunStarted

_TIMES = st.integers(0, 2**62)
_TEXTS = st.text(max_size=20)
_IDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
_STARTED = st.builds(
    RunStarted,
    at=_TIMES,
    name=_TEXTS,
    input=st.binary(),
    version=st.integers(1, 99),
    queue=_TEXTS,
    parent_id=st.none() | _IDS,
    root_id=st.none() | _IDS,
    deadline=st.none() | _TIMES,
    tags=st.none() | st.dictionaries(_TEXTS, _TEXTS, max_size=3),
    parent_key=st.none() | st.integers(1, 2**62),
    parent_cmd=st.none() | st.integers(1, 2**31),
    seed=_TEXTS,
)
_UNREAD = st.builds(
    EventReceived,
    at=_TIMES,
    name=_TEXTS,
    payload=st.binary(),
    number=st.integers(1, 2**62),
    key=st.none() | _TEXTS,
    topic_number=st.none() | st.integers(1, 2**62),
) | st.builds(
    RequestReceived, at=_TIMES, name=_TEXTS, payload=st.binary(), number=st.integers(1, 2**62)
)


@given(
    st.builds(
        Carried,
        started=_STARTED,
        attempt=st.integers(1, 2**31),
        unread=st.lists(_UNREAD, max_size=5).map(tuple),
        children=st.lists(
            st.builds(
                CarriedChild, cmd=st.integers(1, 2**31), child_id=_IDS, abandoned=st.booleans()
            ),
            max_size=5,
        ).map(tuple),
        followers=st.lists(_TEXTS, max_size=3).map(tuple),
    )
)
def test_whatever_is_carried_arrives(carried):
    """Unread events in their order, children, followers, how the run began and its attempt."""
    assert unpack_carried(pack_carried(carried)) == carried


def test_what_a_newer_version_adds_is_ignored():
    """Fields are only ever added at the end."""
    carried = Carried(RunStarted(1, "w", b""), 1, (), (CarriedChild(1, "c", abandoned=False),), ())
    fields = msgpack.unpackb(pack_carried(carried))
    fields[3][0].append("new")
    assert unpack_carried(msgpack.packb([*fields, "new"])) == carried


def test_how_it_stands_on_disk():
    """Old histories stay readable: these bytes are pinned."""
    carried = Carried(
        RunStarted(5, "w", b"\x01\xc0"),
        2,
        (EventReceived(6, "paid", b"\x01\xc3", 3),),
        (CarriedChild(4, "run.4", abandoned=True),),
        ("17:3",),
    )
    pinned = bytes.fromhex(PINNED)
    assert pack_carried(carried) == pinned
    assert unpack_carried(pinned) == carried


PINNED = "95940105a177c4060191c40201c00291942106a470616964c4070192c40201c303919304a572756e2e34c391a431373a33"
