"""Spiking attention on the CPU: causal linear attention beside FLA's plain chunk form and torch's causal attention;
attention among tokens with its neuron beside SpikingJelly.

    python benchmarks/attention.py [--quick] [--rounds N]

All get the same spikes and the same gradient at the output, float32, forward plus backward with autograd. Outputs and
gradients are compared first. Torch's attention computes another function (softmax) and is not compared.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _compare import Contender, alternate, finish, machine, report
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from spikenet.kernels.attention import causal_attention, spiking_attention_lif
from spikenet.neurons import LIF, surrogate

Work = Callable[[], list[Tensor]]


def spikes(rate: float, *shape: int) -> Tensor:
    return (torch.rand(*shape) < rate).float()


def trained(function: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor) -> Work:
    def work() -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in inputs]
        out = function(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad)]

    return work


def same(a: list[Tensor], b: list[Tensor]) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-3)


def naive_chunks() -> Callable[..., Tensor]:
    """FLA's plain chunk form, loaded by its path: the package itself wants a GPU's driver."""
    package = importlib.util.find_spec("fla")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "ops" / "linear_attn" / "naive.py"
    spec = importlib.util.spec_from_file_location("naive", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module.naive_chunk_linear_attn


def causal(steps: int, rounds: int) -> dict[str, Any]:
    q, k, v = (spikes(0.2, steps, 1, 8, 64) for _ in range(3))
    grad = torch.randn(v.shape)
    theirs = [x.transpose(0, 1).contiguous() for x in (q, k, v)]
    heads, back = [x.transpose(1, 2).contiguous() for x in theirs], grad.transpose(0, 1).contiguous()
    works: dict[str, Work] = {
        "spikenet": trained(lambda *x: causal_attention(*x)[0], [q, k, v], grad),
        "fla, plain": trained(functools.partial(naive_chunks(), scale=1.0), theirs, back),
        "torch, softmax": trained(
            functools.partial(scaled_dot_product_attention, is_causal=True), heads, back.transpose(1, 2).contiguous()
        ),
    }
    same(works["spikenet"](), [x.transpose(0, 1) for x in works["fla, plain"]()])
    times = alternate([Contender(name, work) for name, work in works.items()], rounds)
    return report(f"causal attention, {steps} tokens, 8 heads of 64", times, "spikenet")


def product(shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based import surrogate as their_surrogate
    from spikingjelly.activation_based.layer import SpikingSelfAttention

    q, k, v = (spikes(0.15, *shape) for _ in range(3))
    grad = torch.randn(v.shape)
    lif = LIF(2.0, 0.5, detach_reset=True, surrogate=surrogate.sigmoid(4.0))
    jelly = neuron.LIFNode(
        v_threshold=0.5, detach_reset=True, step_mode="m", surrogate_function=their_surrogate.Sigmoid(4.0)
    )

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return lif._scan([v], None, by=functools.partial(spiking_attention_lif, q, k, 0.125))[0]

    def theirs(qkv: Tensor) -> Tensor:
        functional.reset_net(jelly)
        return jelly(SpikingSelfAttention._ssa_kernel_torch(qkv, 0.125))

    stacked = torch.stack([x.mT for x in (q, k, v)], 2).contiguous()
    works = {
        "spikenet": trained(ours, [q, k, v], grad),
        "spikingjelly": trained(theirs, [stacked], grad.mT.contiguous()),
    }
    z, gx = works["spikingjelly"]()
    same(works["spikenet"](), [z.mT, *(x.mT for x in gx.unbind(2))])
    times = alternate([Contender(name, work) for name, work in works.items()], rounds)
    return report(f"attention among tokens with its LIF, T, B, H, N, D = {shape}", times, "spikenet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases, few rounds")
    parser.add_argument("--rounds", type=int, default=9, help="alternations (default 9)")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(machine())
    rounds = 3 if options.quick else options.rounds
    lengths, shapes = (1024,), [(4, 2, 8, 64, 32)]
    if not options.quick:
        lengths, shapes = (1024, 4096), [(4, 4, 12, 64, 32), (4, 2, 8, 196, 64)]  # of Spikformer's sizes
    finish([*(causal(n, rounds) for n in lengths), *(product(s, rounds) for s in shapes)])


if __name__ == "__main__":
    main()
