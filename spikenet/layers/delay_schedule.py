"""How delays are trained: sigma from epoch to epoch, and a learning rate of their own."""

from __future__ import annotations

from typing import Any

from torch import nn

from spikenet.errors import ArgumentError
from spikenet.layers.delay import Delayed

__all__ = ["SigmaSchedule", "delay_groups"]


class SigmaSchedule:
    """Makes the kernels of all delays of a network narrower: after each of the first `epochs` epochs,

        sigma *= (last / sigma_0)^(1 / epochs)        while sigma > last

    with the `sigma_0` that each layer started from. Published: `sigma_0 = taps // 2`, `last = 0.23` and `epochs` a
    quarter of all.

    A network trained so hears between the steps, which evaluation, with its rounded delays, does not: what depends on
    single steps is lost then. With `settle` delays are rounded after so many epochs, and sigma becomes 0, at which a
    kernel around a whole delay is one tap up to a thousandth of its weight; from then on the weights learn for the
    network that is evaluated. Delays want a learning rate of 0 by then.

    Args:
        net: the network; every layer with delays in it takes part.
        epochs: after how many epochs `last` is reached; 0 leaves sigma as it is.
        last: the sigma at the end.
        settle: after how many epochs delays are rounded; None never does it, as published.

    Raises:
        ArgumentError: if `epochs` is below 0, `last` not above 0 or `settle` below 1, or the network has no delays.

    Source: Hammouamri et al., ICLR 2024, and its code.
    """

    def __init__(self, net: nn.Module, epochs: int, last: float = 0.23, settle: int | None = None) -> None:
        if epochs < 0 or not last > 0:
            raise ArgumentError(f"SigmaSchedule: epochs must be 0 or more and last above 0, got {epochs}, {last}")
        if settle is not None and settle < 1:
            raise ArgumentError(f"SigmaSchedule: settle must be None or 1 or more epochs, got {settle}")
        self.layers = [m for m in net.modules() if isinstance(m, Delayed)]
        if not self.layers:
            raise ArgumentError("SigmaSchedule: the network has no layer with delays")
        self.epochs, self.last, self.settle, self.epoch = epochs, last, settle, 0
        self.first = [float(layer.sigma) for layer in self.layers]

    def step(self) -> None:
        """An epoch has ended."""
        if self.epoch < self.epochs:
            for layer, first in zip(self.layers, self.first, strict=True):
                if float(layer.sigma) > self.last:
                    layer.sigma.mul_((self.last / first) ** (1 / self.epochs))
        self.epoch += 1
        if self.epoch == self.settle:
            for layer in self.layers:
                layer.delay.data.round_()
                layer.sigma.zero_()

    def state_dict(self) -> dict[str, Any]:
        """The epoch and where the layers started; sigma itself is a buffer of each layer."""
        return {"epoch": self.epoch, "first": list(self.first)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.epoch, self.first = state["epoch"], list(state["first"])


def delay_groups(net: nn.Module, lr: float, delay_lr: float | None = None, weight_decay: float = 0.0) -> list[dict]:
    """Parameter groups for a torch optimiser: all but the delays, and the delays.

    Args:
        net: the network.
        lr: learning rate of all but the delays.
        delay_lr: that of the delays, which are counted in steps and not decayed; `100 lr` by default, as published.
        weight_decay: of all but the delays.
    """
    delays = {id(m.delay): m.delay for m in net.modules() if isinstance(m, Delayed)}
    rest = [p for p in net.parameters() if id(p) not in delays]
    apart = {"params": list(delays.values()), "lr": 100 * lr if delay_lr is None else delay_lr, "weight_decay": 0.0}
    return [{"params": rest, "lr": lr, "weight_decay": weight_decay}, apart]
