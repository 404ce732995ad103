"""The calls that do nothing until somebody awaits them."""

from __future__ import annotations

from durable.lint.names import CTX

VERBS = frozenset(
    "step sleep sleep_until call start parallel map race send_event publish continue_as_new wait_for_event"
    " wait_for_any wait_for_all wait_for_request wait_for_input wait_for_approval wait_for_choice wait_for_choices"
    " wait_for_text wait_for_form".split()
)
"""The verbs of a context that are awaited."""

CHILD_VERBS = frozenset({"result", "send_event", "cancel"})
"""Those of what `await ctx.start(...)` returns."""

COROUTINES = frozenset(
    {
        *(f"{CTX}.{verb}" for verb in VERBS),
        *(f"{CTX}.start().{verb}" for verb in CHILD_VERBS),
        *("asyncio.sleep", "asyncio.wait_for", "asyncio.wait"),
    }
)
"""The qualified names of all of them, and those of asyncio that are like them."""

TASKS = frozenset({"asyncio.create_task", "asyncio.ensure_future", "asyncio.gather"})
"""What begins at once, and is cancelled at the end unless somebody awaits it."""
