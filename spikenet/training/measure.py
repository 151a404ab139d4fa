"""What a network costs on this machine: seconds a sample, and the memory of a training step."""

from __future__ import annotations

import copy
import gc
import os
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from spikenet.training.module import Classifier

__all__ = ["peak_memory", "seconds_per_sample", "training_memory"]


def seconds_per_sample(
    model: nn.Module, loader: DataLoader[Any], batches: int = 16, device: torch.device | str = "cpu"
) -> float:
    """Seconds that a network takes for a sample, in batches and evaluation mode; loading and moving data is left out.

    Args:
        model: called on a batch; it is moved to the device.
        loader: yields ``(events, labels)``; its first batch is run once before the clock starts.
        batches: how many are timed, at most.
        device: where it runs.
    """
    model, device = model.to(device).eval(), torch.device(device)
    spent, samples = 0.0, 0
    with torch.inference_mode():
        for number, (x, labels) in enumerate(islice(loader, batches)):
            x = x.to(device)
            if number == 0:
                model(x)
            _wait(device)
            started = time.perf_counter()
            model(x)
            _wait(device)
            spent += time.perf_counter() - started
            weights = labels.ndim == 2 and labels.is_floating_point()  # [B, classes]; a text's labels are [T, B]
            samples += labels.shape[0 if weights else -1]
    return spent / samples


def training_memory(module: Classifier, batch: Any, device: torch.device | str = "cpu") -> int:
    """The most bytes that a training step holds at once: weights, gradients, the moments of AdamW, and what is kept of
    a batch for the backward pass.

    Args:
        module: what is trained; it stays as it is, and a copy takes two steps.
        batch: of training data, ``(x, labels)``.
        device: where the copy runs.

    Returns:
        Bytes, as torch's allocators count them: what kernels hold for themselves is not among them.
    """

    def steps() -> None:
        own = copy.deepcopy(module).to(device).train()
        optimizer = torch.optim.AdamW(own.parameters(), lr=0.0)
        x, labels = (part.to(device) for part in batch)
        for _ in range(2):  # the second step finds the moments of the first
            optimizer.zero_grad()
            scores, wanted = own._scored(x, labels, "the batch measured")
            functional.cross_entropy(scores.float(), wanted).backward()
            optimizer.step()

    with torch.random.fork_rng():
        return peak_memory(steps, device)


def peak_memory(run: Callable[[], None], device: torch.device | str = "cpu") -> int:
    """The most bytes that torch's allocator for a device holds at once for what `run` makes, which is run twice: what
    only a first time needs does not count."""
    run()
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's library writes of itself to stderr
    gc.collect()
    gc.disable()  # so that it is the same every time
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
            run()
    finally:
        gc.enable()
    held = most = 0
    for event in sorted(seen.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]" and event.device_type() == torch.autograd.DeviceType.CPU:
            held += event.nbytes()
            most = max(most, held)
    return most


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
