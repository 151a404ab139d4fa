"""A program: causal attention with the sequence in parts on 2 and 3 processes, against the whole on one.

It starts its processes by forking before anything has run, so that torch is loaded once. Exits with 0 if all agree.
"""

import multiprocessing.connection
import sys

import torch
from torch import Tensor, distributed, nn

from spikenet.kernels.attention import causal_attention, parallel_attention
from spikenet.layers import CausalSpikingAttention, sequence_parallel

CUTS = {2: [0, 11, 37], 3: [0, 5, 6, 37]}  # parts of unequal length, one of a single token
TOLERANCE = 1e-12


def given(decay: str, delta: bool) -> list[Tensor | None]:
    draw = torch.Generator().manual_seed(0)
    shape, heads, width, values = (37, 2, 3), 3, 4, 5
    q, k = (torch.randn(*shape, width, generator=draw, dtype=torch.float64) / 2 for _ in range(2))
    v = torch.randn(*shape, values, generator=draw, dtype=torch.float64)
    sizes = {"none": None, "head": (heads,), "step": shape, "channel": (*shape, width)}[decay]
    g = None if sizes is None else -torch.rand(*sizes, generator=draw, dtype=torch.float64) / 4
    beta = torch.rand(*shape, generator=draw, dtype=torch.float64) if delta else None
    return [q, k, v, g, beta]


def part(x: Tensor | None, place: slice, whole: int = 37) -> Tensor | None:
    """A fresh leaf of a part; what has no steps is taken whole."""
    if x is None:
        return None
    return (x[place] if len(x) == whole else x).clone().requires_grad_()


def same(what: str, ours: Tensor, truth: Tensor) -> None:
    ours, truth = ours.detach(), truth.detach()
    if not torch.allclose(ours, truth, rtol=0, atol=TOLERANCE * max(1.0, float(truth.abs().max()))):
        raise SystemExit(f"{what}: {(ours - truth).abs().max():.3g} apart")


def check_operation(rank: int, size: int, group: object) -> None:
    place = slice(*CUTS[size][rank : rank + 2])
    for decay in ("none", "head", "step", "channel"):
        for delta in (False, True):
            whole = [part(x, slice(None)) for x in given(decay, delta)]
            seed = torch.cos(torch.arange(37.0, dtype=torch.float64)).view(-1, 1, 1, 1)
            truth, last = causal_attention(*whole, scale=0.5)
            ((truth * seed).sum() + last.square().sum()).backward()
            mine = [part(x, place) for x in given(decay, delta)]
            out, state = parallel_attention(*mine, scale=0.5, group=group)
            loss = (out * seed[place]).sum() + (state.square().sum() if rank == size - 1 else 0.0)
            loss.backward()
            where = f"{size} processes, decay {decay}, delta {delta}"
            same(where, out, truth[place])
            for name, x, y in zip(("q", "k", "v", "g", "beta"), mine, whole, strict=True):
                if x is not None and len(y) == 37:
                    same(f"{where}, gradient of {name}", x.grad, y.grad[place])
                elif x is not None:
                    distributed.all_reduce(x.grad, group=group)
                    same(f"{where}, gradient of {name}", x.grad, y.grad)


def check_layer(rank: int, size: int, group: object) -> None:
    place = slice(*CUTS[size][rank : rank + 2])
    for decay in ("none", "fixed", "gated"):
        torch.manual_seed(1)
        net = nn.Sequential(CausalSpikingAttention(12, 3, decay), nn.LayerNorm(12)).double()
        x = torch.randn(37, 2, 12, dtype=torch.float64)
        truth = net(x)
        truth.square().sum().backward()
        gradients = [p.grad.clone() for p in net.parameters()]
        net.zero_grad()
        out = sequence_parallel(net, group)(x[place])
        out.square().sum().backward()
        same(f"layer, {size} processes, {decay}", out, truth[place])
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            distributed.all_reduce(parameter.grad, group=group)
            same(f"weights of the layer, {size} processes, {decay}", parameter.grad, gradient)


def work(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=3)
    for size in CUTS:
        group = distributed.new_group(list(range(size)))
        if rank < size:
            check_operation(rank, size, group)
            check_layer(rank, size, group)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work, args=(rank, sys.argv[1])) for rank in range(3)]
    for process in processes:
        process.start()
    multiprocessing.connection.wait([process.sentinel for process in processes])
    for process in processes:
        process.join(10)  # one that failed leaves the others waiting for it
        process.kill()
    sys.exit(max(abs(process.exitcode or 0) for process in processes))
