"""A program: causal attention with the sequence in parts on 2 and 3 processes, against the whole on one.

Exits with 0 if all agree.
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from spikenet.kernels.attention import causal_attention, parallel, parallel_attention
from spikenet.layers import CausalSpikingAttention, sequence_parallel
from tests.forked import run

CUTS = {2: [0, 11, 37], 3: [0, 1, 1, 37]}  # parts of unequal length, one of a single token and one of none
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
    scale = max([1.0, *truth.abs().flatten().tolist()])
    if ours.shape != truth.shape or not torch.allclose(ours, truth, rtol=0, atol=TOLERANCE * scale):
        raise SystemExit(f"{what}: {ours} in the place of {truth}")


def one_after_the_other(whole: list[Tensor | None], cuts: list[int]) -> tuple[Tensor, list[Tensor]]:
    """The output of all parts, and the state after each, on one process."""
    outputs, states = [], []
    for place in map(slice, cuts, cuts[1:]):
        given = [x if x is None or len(x) != cuts[-1] else x[place] for x in whole]
        out, state = causal_attention(*given, state=states[-1] if states else None, scale=0.5)
        outputs.append(out)
        states.append(state)
    return torch.cat(outputs), states


def check_operation(rank: int, size: int, group: object) -> None:
    place = slice(*CUTS[size][rank : rank + 2])
    for decay in ("none", "head", "step", "channel"):
        for delta in (False, True):
            whole = [part(x, slice(None)) for x in given(decay, delta)]
            seed = torch.cos(torch.arange(37.0, dtype=torch.float64)).view(-1, 1, 1, 1)
            truth, states = one_after_the_other(whole, CUTS[size])
            ((truth * seed).sum() + sum(s.square().sum() for s in states)).backward()
            mine = [part(x, place) for x in given(decay, delta)]
            out, state = parallel_attention(*mine, scale=0.5, group=group)
            ((out * seed[place]).sum() + state.square().sum()).backward()
            where = f"{size} processes, decay {decay}, delta {delta}"
            same(where, out, truth[place])
            same(f"{where}, state", state, states[rank])
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


def check_autocast(rank: int, group: object) -> None:
    """Sums over the tokens of a part stay in float32."""
    place = slice(*CUTS[2][rank : rank + 2])
    for decay in ("none", "step"):
        whole = [part(x, slice(None)) for x in given(decay, False)]
        truth = causal_attention(*(None if x is None else x.float() for x in whole))[0]
        truth.square().sum().backward()
        mine = [part(x, place) for x in given(decay, False)]
        with torch.autocast("cpu", torch.bfloat16):
            ours = parallel_attention(*(None if x is None else x.float() for x in mine), group=group)[0]
            ours.square().sum().backward()
        apart = (ours - truth[place]).abs().max(), (mine[2].grad - whole[2].grad[place]).abs().max()
        if max(apart) > 1e-4:
            raise SystemExit(f"autocast, decay {decay}: {apart} apart")


def check_memory() -> None:
    """A part, however many others there are, needs what a sequence of its length needs."""
    for decay in ("none", "fixed", "gated"):
        layer, x = CausalSpikingAttention(32, 2, decay), torch.randn(4096, 1, 32)
        one = peak(layer, x)
        parts = peak(sequence_parallel(layer), x)
        if parts > 1.02 * one:
            raise SystemExit(f"decay {decay}: a part takes {parts} bytes, a sequence of its length {one}")


def peak(layer: nn.Module, x: Tensor) -> int:
    """Bytes that torch held at most, in both directions, above what was there."""
    layer(x).sum().backward()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        layer(x.requires_grad_()).sum().backward()
    trace = Path(f"{sys.argv[1]}-{distributed.get_rank()}.json")
    profile.export_chrome_trace(str(trace))
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == "[memory]"]
    steps = [event["args"] for event in sorted(events, key=lambda event: event["ts"])]
    return max(step["Total Allocated"] for step in steps) - steps[0]["Total Allocated"] + steps[0]["Bytes"]


def work(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    whole_products, parallel._CHUNK = parallel._CHUNK, 2  # so that short parts have several pieces
    distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=3)
    for size in CUTS:
        group = distributed.new_group(list(range(size)))
        if rank < size:
            check_operation(rank, size, group)
            check_layer(rank, size, group)
            if size == 2:
                check_autocast(rank, group)
    parallel._CHUNK = whole_products
    check_memory()
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    run(work, 3)
