"""Augmentations as the options of a run name them: ``RandomShift: 1``, or ``ScaleTime: {low: 0.9, high: 1.1}``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.events import (
    AreaDrop,
    Augmentation,
    BatchAugmentation,
    CutMix,
    EventDrop,
    EventMix,
    FlipPolarity,
    FlipX,
    FlipY,
    OneOf,
    RandomShift,
    ReverseTime,
    ScaleTime,
    TimeDrop,
    TimeJitter,
)

_Known = dict[str, Callable[..., Any]]
AUGMENTATIONS: _Known = {
    kind.__name__: kind
    for kind in (
        *(AreaDrop, EventDrop, FlipPolarity, FlipX, FlipY, OneOf),
        *(RandomShift, ReverseTime, ScaleTime, TimeDrop, TimeJitter),
    )
}
"""Changes of one recording that leave it on its sensor, by name."""

MIXES: _Known = {kind.__name__: kind for kind in (CutMix, EventMix)}
"""Changes of a batch and its labels, by name."""


def augmentations(given: Any) -> tuple[Augmentation, ...]:
    """Augmentations of recordings from a list of names with arguments, or of the objects that they are, or from one.

    Errors: UnknownNameError for a name or an argument that is not known, ArgumentError for a value that cannot work.
    """
    return _made("augment", given, AUGMENTATIONS, MIXES)


def mixes(given: Any) -> tuple[BatchAugmentation, ...]:
    """The same for augmentations of batches."""
    return _made("mix", given, MIXES, AUGMENTATIONS)


def _made(option: str, given: Any, known: _Known, other: _Known) -> tuple[Any, ...]:
    items = given if isinstance(given, list | tuple) else [] if given is None else [given]
    return tuple(
        item if callable(item) and not isinstance(item, type) else _one(option, item, known, other) for item in items
    )


def _one(option: str, item: Any, known: _Known, other: _Known) -> Any:
    """An object from ``Name``, ``{Name: value}`` or ``{Name: {argument: value}}``."""
    named = {item: {}} if isinstance(item, str) else item
    if not isinstance(named, Mapping) or len(named) != 1:
        raise _unreadable(option, known, item)
    ((name, value),) = named.items()
    if name in other:
        wanted = "augment" if option == "mix" else "mix"
        raise ArgumentError(f"{name} belongs to the option `{wanted}`, received it in `{option}`")
    if name not in known:
        raise UnknownNameError("augmentation", str(name), known)
    return _built(name, known[name], {} if value is None else value)


def _built(name: str, kind: Callable[..., Any], value: Any) -> Any:
    taken = get_type_hints(kind)
    arguments = value if isinstance(value, Mapping) else {next(iter(taken), str(value)): value}
    for argument, amount in arguments.items():
        if argument not in taken:
            raise UnknownNameError(f"argument of {name}", str(argument), taken)
        if taken[argument] in (int, float) and not _fits(amount, taken[argument]):
            wanted = "a whole number" if taken[argument] is int else "a number"
            raise ArgumentError(f"{name} wants {wanted} for {argument}, received {amount!r}")
    missing = [p.name for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
    if not set(missing) <= set(arguments):
        raise ArgumentError(f"{name} wants {', '.join(missing)}, received {value!r}; `{_example(name, missing)}` works")
    return kind(**{key: augmentations(amount) if kind is OneOf else amount for key, amount in arguments.items()})


def _fits(amount: Any, kind: type) -> bool:
    return not isinstance(amount, bool) and isinstance(amount, int if kind is int else int | float)


def _example(name: str, arguments: Sequence[str]) -> str:
    shown = ", ".join(f"{argument}: ..." for argument in arguments)
    return f"{name}: {{{shown}}}"


def _unreadable(option: str, known: _Known, received: Any) -> ArgumentError:
    some = "[CutMix]" if option == "mix" else "[RandomShift: 1, FlipX: 0.5]"
    return ArgumentError(f"`{option}` wants a list such as {some}, of {', '.join(known)}; received {received!r}")
