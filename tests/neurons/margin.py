"""A neuron's kernel against float64 autograd through a transcription of its paper: spikes and every gradient.

It runs in the input's precision, as a rule float32. A lane counts if every |u|, and every distance to a kink of the
surrogate, exceeds the margin: nearer to a tie the two precisions may rightly disagree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikenet.kernels import use_backend
from spikenet.neurons import Neuron
from tests.neurons import transcription as ts


def disagreements(
    neuron: Neuron,
    step: ts.Step,
    x: Tensor,
    start: dict[str, Tensor],
    slope: ts.Slope,
    *,
    kinks: Sequence[float] = (),
    margin: float | Tensor = 1e-5,
    tolerance: float = 1e-5,
) -> list[str]:
    """What is not as it should be, in words: spikes equal, and the gradients to the input, to the states in `start` and
    to every learned parameter close; and the premises, few lanes near a tie and neither silence nor a storm.

    `margin` is in the unit of the potential; `tolerance` is relative, to a norm or to the sum of a parameter's terms.
    """
    generator = torch.Generator().manual_seed(len(x))
    x64 = x.to(torch.float64, copy=True).requires_grad_()
    s64 = {n: v.to(torch.float64, copy=True).requires_grad_() for n, v in start.items()}
    p64 = {n: _per_step(getattr(neuron, n), x) for n in neuron.params}
    truth = ts.run(step, x64, s64, p64, slope)

    ties = [truth.distances.abs(), *((truth.distances.abs() - k).abs() for k in kinks if k)]
    counts = torch.stack([(t > margin).all(0) for t in ties]).all(0)
    counted, rate = float(counts.double().mean()), float(truth.spikes.detach().mean())
    premises = {f"{counted:.1%} of the lanes count": counted >= 0.99, f"a rate of {rate:.1%}": 0.02 < rate < 0.6}
    wrong = [words for words, holds in premises.items() if not holds]

    ends = [n for n, v in truth.state.items() if v.requires_grad]
    gz, *gs = (torch.randn(s, generator=generator) * 0.3 * counts for s in (x.shape, *[x.shape[1:]] * len(ends)))
    wanted = {"x": x64, **s64, **{n: p64[n] for n, _ in neuron.named_parameters()}}
    outputs, upstream = [truth.spikes, *(truth.state[n] for n in ends)], [g.double() for g in (gz, *gs)]
    found = torch.autograd.grad(outputs, [*wanted.values()], upstream, materialize_grads=True)
    grads = dict(zip(wanted, found, strict=True))

    xi, si = x.clone().requires_grad_(), {n: v.clone().requires_grad_() for n, v in start.items()}
    with use_backend("numba"):
        z, state = neuron.run(xi, neuron.State(**si))
        torch.autograd.backward([z, *(getattr(state, n) for n in ends)], [g.to(x.dtype) for g in (gz, *gs)])

    if z.dtype != x.dtype or not torch.equal(z[:, counts].double(), truth.spikes[:, counts].detach()):
        wrong.append(f"spikes in {z.dtype}")
    errors = {name: relative(value.grad, grads[name]) for name, value in {"x": xi, **si}.items()}
    for name, value in neuron.named_parameters():
        error = (value.grad.double() - grads[name].sum_to_size(value.shape)).abs()
        size = grads[name].abs().sum_to_size(value.shape)
        errors[name] = float((error / size.clamp(min=1e-300)).max())
    return wrong + [f"gradient of {name}: {error:.1e}" for name, error in errors.items() if not error <= tolerance]


def _per_step(value: Tensor, x: Tensor) -> Tensor:
    return value.detach().double().expand(x.shape).clone().requires_grad_(isinstance(value, torch.nn.Parameter))


def relative(ours: Tensor, truth: Tensor) -> float:
    """The distance between the two over the size of the truth."""
    return float((ours.double() - truth).norm() / truth.norm().clamp(min=1e-30))


def between(low: float, high: float, shape: tuple[int, ...], seed: int = 0) -> torch.nn.Parameter:
    """A learned parameter, uniform between two values."""
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.Parameter(low + (high - low) * values)


def drive(shape: tuple[int, ...], scale: float = 1.0, mean: float = 0.5, seed: int = 0) -> Tensor:
    """A Gaussian input."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale + mean
