"""Early exit: a network that answers as soon as it is sure, instead of at the last time step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spikenet.errors import ArgumentError, ShapeError
from spikenet.layers import Stream

__all__ = ["EarlyExit", "Exits", "Tradeoff", "fit_early_exit", "oracle_exit", "tradeoff"]

THRESHOLDS = 400  # tried at each temperature


class Exits(NamedTuple):
    """When each recording was answered and how: steps taken, 1 to T, and classes, int64 `[B]` each."""

    steps: Tensor
    answers: Tensor

    def accuracy(self, labels: Tensor) -> float:
        """Share of answers that are `labels` `[B]`."""
        return (self.answers == labels).double().mean().item()

    @property
    def mean_steps(self) -> float:
        """Steps taken on average."""
        return self.steps.double().mean().item()


class Tradeoff(NamedTuple):
    """What thresholds would give, `[N]` each: the threshold, steps on average, accuracy."""

    threshold: Tensor
    steps: Tensor
    accuracy: Tensor

    def frontier(self) -> Tradeoff:
        """Only those that no other one beats: as fast or faster and more accurate. By steps, ascending."""
        order = sorted(range(len(self.steps)), key=lambda i: (self.steps[i].item(), -self.accuracy[i].item()))
        kept: list[int] = []
        for i in order:
            if not kept or self.accuracy[i] > self.accuracy[kept[-1]]:
                kept.append(i)
        return Tradeoff(*(column[kept] for column in self))


@dataclass(frozen=True)
class EarlyExit:
    """Dynamic confidence: stop at the first step at which the answer so far is sure enough.

        O[t] = o[1] + ... + o[t],    c[t] = max_k softmax(O[t] / temperature)_k,    stop where c[t] > threshold, or at T

    Without a temperature the confidence is near 1 after a few steps, whatever the answer is worth. Both numbers belong
    to a network and are chosen on a validation part: `fit_early_exit`.

    Args:
        threshold: 0 stops at once, 1 never before the end.
        temperature: in units of the outputs, above 0.

    Raises:
        ArgumentError: for a threshold outside 0 to 1 or a temperature that is not above 0.

    Source: Li, Jones and Furber, "Unleashing the potential of spiking neural networks with Dynamic Confidence",
    ICCV 2023, arXiv 2303.10276.
    """

    threshold: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ArgumentError(f"EarlyExit: the threshold lies between 0 and 1, got {self.threshold}")
        if not self.temperature > 0:
            raise ArgumentError(f"EarlyExit: the temperature must be above 0, got {self.temperature}")

    def confidence(self, outputs: Tensor) -> Tensor:
        """`c` `[T, B]` of the outputs of every step `[T, B, classes]`."""
        return _confidence(outputs, self.temperature)

    def __call__(self, outputs: Tensor) -> Exits:
        """When and how `outputs` `[T, B, classes]` would have been answered."""
        return _exits(_answers(outputs), self.confidence(outputs) > self.threshold)

    def live(self, stream: Stream, frames: Iterable[Tensor]) -> Exits:
        """Run a network until all entries of a batch are sure, and not a step further.

        Args:
            stream: a network whose output is `[B, classes]` in every step, without a readout over time.
            frames: its input, `[B, *features]` each.

        Raises:
            ShapeError: if there is no frame.
        """
        total: Tensor | None = None
        for t, frame in enumerate(frames, start=1):
            output = stream.step(frame)
            if total is None:
                total, steps = output, output.new_zeros(len(output), dtype=torch.int64)
                answers = steps.clone()
            else:
                total = total + output
            going = steps == 0
            answers = torch.where(going, total.argmax(-1), answers)
            sure = (total / self.temperature).softmax(-1).amax(-1) > self.threshold
            steps = torch.where(going & sure, t, steps)
            if bool((steps > 0).all()):
                break
        if total is None:
            raise ShapeError("EarlyExit needs at least one frame to answer")
        return Exits(torch.where(steps == 0, t, steps), answers)


def tradeoff(outputs: Tensor, labels: Tensor, temperature: float = 1.0) -> Tradeoff:
    """Steps and accuracy at thresholds that are spread over the confidences that occur, 0 and 1 among them.

    Args:
        outputs: of every step, `[T, B, classes]`.
        labels: int64 `[B]`.
        temperature: see `EarlyExit`.
    """
    confidence, answers = _confidence(outputs, temperature), _answers(outputs)
    levels = torch.linspace(0, 1, THRESHOLDS, dtype=torch.float64)
    inner = confidence.double().flatten().sort().values[(levels * (confidence.numel() - 1)).long()]
    thresholds = torch.cat([inner.new_tensor([0.0]), inner.clamp(max=1.0), inner.new_tensor([1.0])]).unique()
    rows = [
        (exits.mean_steps, exits.accuracy(labels)) for exits in (_exits(answers, confidence > c) for c in thresholds)
    ]
    steps, accuracy = torch.tensor(rows, dtype=torch.float64).T
    return Tradeoff(thresholds, steps, accuracy)


def fit_early_exit(
    outputs: Tensor, labels: Tensor, temperatures: Sequence[float] = (1.0,), tolerance: float = 0.0
) -> EarlyExit:
    """The fastest exit that loses no more than `tolerance` of the accuracy of all steps. Give it a validation part.

    Args:
        outputs: of every step, `[T, B, classes]`.
        labels: int64 `[B]`.
        temperatures: to choose from.
        tolerance: accuracy that may be lost, 0.01 for a point.
    """
    wanted = EarlyExit(1.0)(outputs).accuracy(labels) - tolerance
    best: tuple[float, EarlyExit] = (float("inf"), EarlyExit(1.0))
    for temperature in temperatures:
        found = tradeoff(outputs, labels, temperature)
        fits = (found.accuracy >= wanted - 1e-9).nonzero().flatten()
        first = fits[found.steps[fits].argmin()]
        best = min(
            best, (found.steps[first].item(), EarlyExit(found.threshold[first].item(), temperature)), key=lambda b: b[0]
        )
    return best[1]


def oracle_exit(outputs: Tensor, labels: Tensor) -> Exits:
    """The bound of every exit: each recording stops at its first step with the right answer, or else at T."""
    answers = _answers(outputs)
    return _exits(answers, answers == labels)


def _running(outputs: Tensor) -> Tensor:
    if outputs.ndim != 3 or len(outputs) == 0:
        raise ShapeError(
            f"an early exit reads outputs [T, B, classes] of at least one step, got {tuple(outputs.shape)}"
        )
    return outputs.cumsum(0)


def _confidence(outputs: Tensor, temperature: float) -> Tensor:
    return (_running(outputs) / temperature).softmax(-1).amax(-1)


def _answers(outputs: Tensor) -> Tensor:
    """What would be answered after each step, `[T, B]`."""
    return _running(outputs).argmax(-1)


def _exits(answers: Tensor, stop: Tensor) -> Exits:
    """Stop at the first step with `stop` `[T, B]`, or at the last."""
    first = torch.where(stop.any(0), stop.int().argmax(0), len(stop) - 1)
    return Exits(first + 1, answers.gather(0, first[None])[0])
