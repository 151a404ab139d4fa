"""On one CUDA device: a LIF layer, and a linear layer with LIF, beside SpikingJelly, snnTorch and Norse.

    python benchmarks/gpu.py [--quick] [--rounds N]

Every library gets the same input and the same gradient at its output; spikes and input gradients are compared before
anything is timed. Eager times are of whole modules with autograd, a block of calls between two events, the blocks of
the contenders alternated; graph times are replays of the same work captured in a CUDA graph. "Traffic" is the time in
which the device copies as many bytes as the work must move (forward: input and spikes; backward: input, gradient in,
gradient out) over the time taken.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from collections.abc import Callable

import torch
from _compare import finish
from torch import Tensor, nn

import spikenet
from neurons import norse, snntorch, spikingjelly
from spikenet.layers import SpikingLinear
from spikenet.neurons import surrogate

TAU = 2.0
SIZES = [(4, 1572864), (4, 6422528), (16, 4194304), (100, 65536), (500, 8192), (500, 262144)]
Work = Callable[[], object]
Row = dict[str, object]


def block(work: Work, calls: int) -> float:
    """Milliseconds a call, of `calls` calls in a row."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / calls


def alternate(works: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Milliseconds a call of every contender in every round. A block takes some 50 ms."""
    calls = {}
    for name, work in works.items():
        block(work, 2)
        calls[name] = max(1, min(200, int(50 / max(block(work, 2), 1e-3))))
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(block(work, calls[name]))
    return times


def captured(work: Work) -> Work | None:
    """The replay of `work` in a CUDA graph, or None where it cannot be captured."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work()
    except RuntimeError as error:
        print(f"    not captured: {str(error).splitlines()[0][:100]}")
        return None
    return graph.replay


def bandwidth() -> float:
    """Bytes a millisecond that the device copies, counting those read and those written."""
    a = torch.empty(1 << 30, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.nbytes / min(block(lambda: b.copy_(a), 3) for _ in range(5))


def both_ways(layer: Callable[[Tensor], Tensor], x: Tensor, gz: Tensor) -> Work:
    def work() -> Tensor:
        leaf = x.detach().requires_grad_()  # its own: autograd's nodes must not come from outside a capture
        (gx,) = torch.autograd.grad(layer(leaf), leaf, gz)
        return gx

    return work


def shown(times: list[float]) -> str:
    return f"{statistics.median(times):9.4f} ({min(times):.4f} .. {max(times):.4f})"


def lif(steps: int, lanes: int, dtype: torch.dtype, rounds: int, speed: float) -> Row:
    """The layer alone."""
    generator = torch.Generator("cuda").manual_seed(0)
    x = (torch.randn(steps, 1, lanes, device="cuda", generator=generator) + 0.5).to(dtype).requires_grad_()
    gz = torch.randn(x.shape, device="cuda", generator=generator).to(dtype)
    ours, theirs = spikenet.LIF(TAU, surrogate=surrogate.atan(2.0)).cuda(), spikingjelly()
    z, other = ours(x), theirs(x)
    same = float((z == other).float().mean())
    gx, gy = (torch.autograd.grad(s, x, gz)[0].float() for s in (z, other))
    error = float((gx - gy).norm() / gy.norm())
    print(f"\nLIF T={steps} N={lanes} {dtype}: equal spikes {same:.6f}, input gradients differ by {error:.1e}")
    kept = {name: memory(layer, x) for name, layer in (("spikenet", ours), ("spikingjelly", theirs))}
    del z, other, gx, gy
    eager = alternate({"spikenet": both_ways(ours, x, gz), "spikingjelly": both_ways(theirs, x, gz)}, rounds)
    forward, whole = captured(lambda: ours(x.detach().requires_grad_())), captured(both_ways(ours, x, gz))
    assert forward is not None
    assert whole is not None
    replay = captured(both_ways(theirs, x, gz)) if steps * lanes < 1 << 24 or dtype == torch.float32 else None
    works: dict[str, Work] = {"spikenet forward": forward, "spikenet": whole}
    works |= {"spikingjelly": replay} if replay else {}
    graph = alternate(works, rounds)
    floor = 5 * x.nbytes / speed
    row: Row = {"case": "lif", "T": steps, "N": lanes, "dtype": str(dtype)[6:], "same_spikes": same, "gx_error": error}
    ratios = [b / a for a, b in zip(eager["spikenet"], eager["spikingjelly"], strict=True)]
    traffic = floor / statistics.median(graph["spikenet"])
    print(
        f"  eager ms: ours {shown(eager['spikenet'])}, SpikingJelly {shown(eager['spikingjelly'])}, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
    )
    print(
        f"  graph ms: ours {shown(graph['spikenet'])}, forward {shown(graph['spikenet forward'])}, floor {floor:.4f}: "
        f"traffic {100 * traffic:.1f} %" + (f"; SpikingJelly {shown(graph['spikingjelly'])}" if replay else "")
    )
    print(f"  kept for the backward pass beside input and output, over the input: {kept}")
    medians = {f"eager_{n}": statistics.median(t) for n, t in eager.items()}
    medians |= {f"graph_{n}": statistics.median(t) for n, t in graph.items()}
    return row | medians | {"eager_ratio": statistics.median(ratios), "traffic": traffic, "kept": kept}


def memory(layer: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """What stays allocated between forward and backward beside input and output, over the input's size."""
    gc.collect()
    before = torch.cuda.memory_allocated()
    z = layer(x)
    gc.collect()
    return round((torch.cuda.memory_allocated() - before - z.nbytes) / x.nbytes, 4)


def host(rounds: int) -> Row:
    """Host time of a small layer's forward plus backward, and of torch's own ReLU for comparison."""
    import time

    x = torch.randn(4, 1, 4096, device="cuda", requires_grad=True)
    gz = torch.randn_like(x)
    layers = {"spikenet": spikenet.LIF(TAU).cuda(), "spikingjelly": spikingjelly(), "relu": nn.ReLU()}
    result: Row = {"case": "host"}
    for name, layer in layers.items():
        times = []
        for _ in range(rounds + 1):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(100):
                torch.autograd.grad(layer(x), x, gz)
            times.append((time.perf_counter() - start) * 1e4)
        result[name] = statistics.median(times[1:])
    print("\nHost microseconds of forward + backward, T=4 N=4096:", {k: v for k, v in result.items() if k != "case"})
    return result


def spread_tau(steps: int, lanes: int, rounds: int) -> Row:
    """A learned time constant a neuron beside one for the layer."""
    x = torch.randn(steps, 16, lanes // 16, device="cuda", requires_grad=True)
    gz = torch.randn_like(x)
    works: dict[str, Work] = {}
    for name, shape in (("scalar", ()), ("neuron", (lanes // 16,))):
        layer = spikenet.LIF(nn.Parameter(torch.full(shape, TAU))).cuda()
        wanted = [x, layer.tau]
        work = captured(lambda layer=layer, wanted=wanted: torch.autograd.grad(layer(x), wanted, gz))
        assert work is not None
        works[name] = work
    times = alternate(works, rounds)
    ratio = statistics.median(b / a for a, b in zip(times["scalar"], times["neuron"], strict=True))
    print(
        f"\nLearned tau, T={steps} N={lanes}, graph ms: scalar {shown(times['scalar'])}, per neuron "
        f"{shown(times['neuron'])}, ratio {ratio:.2f}"
    )
    return {"case": "tau", "T": steps, "N": lanes, "ratio": ratio}


def linear(n: int, spikes: bool, rounds: int) -> Row:
    """Linear(n, n) + LIF at B=16, T=500, without a gradient of the input, as the Open Neuromorphic benchmark has it."""
    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(500, 16, n, device="cuda", generator=generator)
    x = (x > 1.2816).float() if spikes else x  # rate 0.1
    first = nn.Linear(n, n, bias=False).cuda()
    nn.init.normal_(first.weight, std=(3.0 if spikes else 1.0) * n**-0.5)
    own = SpikingLinear(n, n, bias=False).cuda() if spikes else first
    own.weight.data = first.weight.data
    layers: dict[str, tuple[nn.Linear, Callable[[Tensor], Tensor]]] = {
        "linear alone": (first, lambda current: current),
        "spikenet": (own, spikenet.LIF(TAU).cuda()),
        "spikingjelly": (first, spikingjelly()),
    }
    if not spikes:
        layers |= {"snntorch": (first, snntorch("cuda")), "norse": (first, norse("cuda"))}
    gz = torch.randn(500, 16, n, device="cuda", generator=generator)

    def work(pair: tuple[nn.Linear, Callable[[Tensor], Tensor]]) -> Work:
        return lambda: torch.autograd.grad(pair[1](pair[0](x)), pair[0].weight, gz)

    peaks = {}
    for name, pair in layers.items():
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work(pair)()
        peaks[name] = round((torch.cuda.max_memory_allocated() - before) / 2**30, 3)
    times = alternate({name: work(pair) for name, pair in layers.items()}, rounds)
    result: Row = {"case": "linear+lif", "n": n, "input": "spikes" if spikes else "dense", "peak_GiB": peaks}
    print(f"\nLinear({n}, {n}) + LIF, T=500 B=16, {result['input']}, float32 (TF32 off), ms, peak GiB")
    for name, t in times.items():
        print(f"  {name:14} {shown(t)}  {peaks[name]}")
        result[name] = statistics.median(t)
    if not spikes:
        part = [a / b - 1 for a, b in zip(times["spikenet"], times["linear alone"], strict=True)]
        result["lif_part"] = statistics.median(part)
        print(f"  the LIF part costs, over the product: {shown(part)}")
    else:
        flat, some = x.view(-1, n), slice(0, 256)
        truth = flat[some].double() @ first.weight.detach().double().T
        with torch.no_grad():  # the whole product: a small one is not split
            outputs = [layer(flat)[some].double() for layer in (own, first)]
        errors = [float((y - truth).norm() / truth.norm()) for y in outputs]
        result |= {"error": errors[0], "error_float32": errors[1]}
        print(f"  relative error against float64: split {errors[0]:.2e}, float32 {errors[1]:.2e}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases, few rounds")
    parser.add_argument("--rounds", type=int, default=7, help="alternations (default 7)")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("This benchmark needs a CUDA device.")
        finish([])
        return
    rounds = 3 if options.quick else options.rounds
    speed = bandwidth()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, copies {speed / 1e9:.2f} TB/s")
    results = [host(rounds)]
    for steps, lanes in [(4, 65536), (100, 8192)] if options.quick else SIZES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16)[: 1 if options.quick else 3]:
            torch.cuda.empty_cache()
            results.append(lif(steps, lanes, dtype, rounds, speed))
    results += [spread_tau(*size, rounds) for size in ((100, 65536), (16, 1 << 20))]
    for n in (512,) if options.quick else (512, 4096, 16384):
        for spikes in (False, True):
            torch.cuda.empty_cache()
            results.append(linear(n, spikes, rounds))
    finish(results)


if __name__ == "__main__":
    main()
