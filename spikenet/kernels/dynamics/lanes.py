"""Parameters and lanes: a parameter [M] with span k gives lane n its entry `(n // k) % M`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def lane_params(params: Sequence[Tensor], spans: Sequence[int], lanes: int) -> list[Tensor]:
    """Each parameter's value in every lane, or one number for all."""
    lane = torch.arange(lanes, device=params[0].device)
    return [p[0] if p.numel() == 1 else p[(lane // span) % p.numel()] for p, span in zip(params, spans, strict=True)]


def lane_sum(gradient: Tensor, param: Tensor, span: int) -> Tensor:
    """Sum the lanes' gradients [N] over the lanes that share a value of `param` [M]."""
    return gradient.view(-1, param.numel(), span).sum(dim=(0, 2)) if param.numel() > 1 else gradient.sum().view(1)
