"""Learning rates of networks with delays."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def falling(step: float, steps: float) -> float:
    """Half a cosine, from 1 at step 0 to 0 at `steps`."""
    return 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


class OneCycle(OneCycleLR):
    """Torch's `OneCycleLR` for every parameter group but those of delays (`group["delays"]`), stepped every epoch.

    The rate of delays falls by half a cosine from the group's `lr` to 0, and their momentum stays: the published
    recipe, which has two optimisers, in one (Hammouamri et al., ICLR 2024, and its code).

    Args:
        optimizer: an Adam; each group's `lr` is the highest.
        epochs: length of the run.
        learning: epochs in which delays learn; afterwards their rate is 0.
    """

    def __init__(self, optimizer: Optimizer, epochs: int, learning: int) -> None:
        self.learning = learning
        self.kept = [(group["lr"], group["betas"]) for group in optimizer.param_groups]
        super().__init__(optimizer, [lr for lr, _ in self.kept], total_steps=epochs)

    def get_lr(self) -> list[Any]:
        """Rates of this epoch; the momenta are set on the way, as torch does it."""
        rates = super().get_lr()
        for number, group in enumerate(self.optimizer.param_groups):
            if group["delays"]:
                rates[number] = self.kept[number][0] * falling(self.last_epoch, self.learning)
                group["betas"] = self.kept[number][1]
        return rates
