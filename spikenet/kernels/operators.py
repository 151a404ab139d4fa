"""Define torch operators: what they do, what they return, and how they are differentiated.

The functions are registered as they are: the `custom_op` decorator costs twice the host time, and at few time steps
host time is what counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_library = torch.library.Library("spikenet", "FRAGMENT")


def define(
    schema: str, run: Callable[..., Any], fake: Callable[..., Any], autograd: Callable[..., Any] | None = None
) -> Any:
    """The operator `torch.ops.spikenet.name`, on every device.

    Args:
        schema: `name(arguments) -> results`, as `torch.library` takes it.
        run: does the work.
        fake: returns empty tensors like the results.
        autograd: stands before `run` where gradients are recorded; without it there are none.
    """
    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, run, "CompositeExplicitAutograd")
    if autograd is not None:
        _library.impl(name, autograd, "Autograd")
    torch.library.register_fake(f"spikenet::{name}", fake, lib=_library)
    return getattr(torch.ops.spikenet, name)
