"""Workflows whose histories were recorded by earlier releases and must replay for ever."""

MODULES = [
    f"{__name__}.{module}"
    for module in (
        "steps",
        "values",
        "times",
        "events",
        "people",
        "children",
        "groups",
        "sagas",
        "lives",
        "mixtures",
    )
]
"""The modules in which the workflow of a history is looked for."""
