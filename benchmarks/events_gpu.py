"""Event-driven layers on a CUDA device beside torch's dense ones, forward plus backward for the weights.

    python benchmarks/events_gpu.py [--quick] [--rounds N]

At every density output and gradients are compared with float64 first; then blocks of calls are timed on the device,
alternated. Torch gets its dense frames for nothing and computes in float32, TF32 off; "split" is `SpikingLinear`, whose
float32 products of spikes run on bfloat16 tensor cores. "crossover" is where the dense product becomes faster than
events (see `spikenet.kernels.synapse.crossover`).
"""

from __future__ import annotations

import argparse
import statistics
from math import prod
from typing import Any

import torch
from _compare import finish
from event_layers import Row, check, crossing, random_events, trained
from gpu import alternate
from torch import Tensor, nn

from spikenet import use_backend
from spikenet.layers import Conv2d, EventConv2d, EventLinear, SpikingLinear

DENSITIES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def by_events(layer: nn.Module, x: Any, gy: Tensor) -> list[Tensor]:
    with use_backend("triton"):
        return trained(layer, list(layer.parameters()), x, gy)


def forward_by_events(layer: nn.Module, x: Any) -> Tensor:
    with use_backend("triton"), torch.no_grad():
        return layer(x)


def point(layers: dict[str, nn.Module], shape: tuple[int, ...], density: float, rounds: int) -> Row:
    """One density: milliseconds of every contender."""
    ours, theirs = layers["events"], layers["dense"]
    x = random_events(shape, density).to("cuda")
    dense = x.to_dense().flatten(2) if isinstance(ours, EventLinear) else x.to_dense()
    gy = torch.randn(theirs(dense).shape, device="cuda")
    with use_backend("triton"):
        errors = check(ours, nn.Sequential(nn.Flatten(2), theirs) if dense.ndim == 3 else theirs, x, gy)
    works: dict[str, Any] = {
        "events": lambda: by_events(ours, x, gy),
        "events, forward": lambda: forward_by_events(ours, x),
        "make frames": x.to_dense,
    }
    for name in layers.keys() - {"events"}:
        works[name] = lambda layer=layers[name]: trained(layer, list(layer.parameters()), dense, gy)
    times = {name: statistics.median(t) for name, t in alternate(works, rounds).items()}
    print(f"  {density:6.3f} {errors[0]:8.1e} {errors[1]:8.1e}  " + "  ".join(f"{n} {t:.3f}" for n, t in times.items()))
    return {"density": density, "events_in_all": x.nnz, "errors": errors} | times


def sweep(name: str, layers: dict[str, nn.Module], shape: tuple[int, ...], rounds: int, quick: bool) -> Row:
    for layer in layers.values():
        layer.cuda().load_state_dict(layers["events"].state_dict())
    print(f"\n{name}, T={shape[0]} B={shape[1]}, {prod(shape) / 1e6:.0f} M inputs: density, errors (events, torch), ms")
    points = [point(layers, shape, density, rounds) for density in (DENSITIES[1:4] if quick else DENSITIES)]
    found = crossing(points, "events")
    print(f"  crossover with dense: {found}")
    return {"case": name, "points": points, "crossover": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases, few rounds")
    parser.add_argument("--rounds", type=int, default=7, help="alternations (default 7)")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("This benchmark needs a CUDA device.")
        finish([])
        return
    torch.backends.cudnn.allow_tf32 = False
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    rounds, results = 3 if options.quick else options.rounds, []
    linears = (
        [(700, 512, 100, 64)] if options.quick else [(700, 512, 100, 256), (140, 512, 100, 256), (2312, 128, 100, 128)]
    )
    for inputs, out, steps, batch in linears:
        kinds = {"events": EventLinear, "dense": nn.Linear, "split": SpikingLinear}
        layers = {name: kind(inputs, out) for name, kind in kinds.items()}
        results.append(sweep(f"linear {inputs} -> {out}", layers, (steps, batch, inputs), rounds, options.quick))
        torch.cuda.empty_cache()
    convolutions = [(2, 32, 34, 20, 16)] if options.quick else [(2, 32, 34, 100, 64), (32, 64, 17, 50, 64)]
    for inputs, out, size, steps, batch in convolutions:
        layers = {name: kind(inputs, out, 3, padding=1) for name, kind in (("events", EventConv2d), ("dense", Conv2d))}
        name, shape = f"3x3 convolution {inputs} -> {out}, {size}x{size}", (steps, batch, inputs, size, size)
        results.append(sweep(name, layers, shape, rounds, options.quick))
        torch.cuda.empty_cache()
    finish(results)


if __name__ == "__main__":
    main()
