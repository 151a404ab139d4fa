"""Spiking attention on one CUDA device: causal linear attention beside FLA and flash attention, attention among tokens
with its neuron beside SpikingJelly.

    python benchmarks/gpu_attention.py [--quick] [--rounds N] [--part causal|product] [--fla chunk fused_chunk]
        [--decay none head step] [--steps 2048 8192 32768]

FLA tries many variants of its kernels at the first call, which takes minutes, and keeps what was fastest at that
call's length: `--fla` chooses among its ops, and with one length a process each is measured with what suits it.

All get the same spikes and the same gradient at the output. Outputs and gradients are compared with float64 first, and
the errors are printed; then forward plus backward, autograd included, is timed in blocks of calls, the contenders
alternated: as whole modules called one by one ("eager"), and as replays of the same work captured in a CUDA graph
("graph"), which leaves out the host's time. Flash attention computes another function (softmax) and is not compared.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch
from _compare import finish
from gpu import alternate, captured
from torch import Tensor

from spikenet.kernels.attention import causal_attention, spiking_attention_lif
from spikenet.kernels.attention.chunks import chunkwise
from spikenet.neurons import LIF, surrogate

TOKENS, HEADS, WIDTH = 32768, 16, 64
FLA = ["chunk", "fused_chunk"]
DECAYS = {"none": "no decay", "head": "a head's own decay", "step": "decay a head and step"}
LENGTHS = [2048, 8192, 32768]
Row = dict[str, Any]
Work = Callable[[], list[Tensor]]


def spikes(rate: float, *shape: int) -> Tensor:
    return (torch.rand(*shape, device="cuda") < rate).bfloat16()


def trained(function: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor) -> Work:
    """Output and gradients of the inputs."""

    def work() -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in inputs]
        out = function(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad)]

    return work


def errors(found: list[Tensor], truth: list[Tensor]) -> list[float]:
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True)]


def compared(
    works: dict[str, Work], layouts: dict[str, Callable[[list[Tensor]], list[Tensor]]], truth: list[Tensor]
) -> Row:
    """Print and return everybody's errors against float64, output first. Who refuses to run is left out."""
    found = {}
    for name, work in list(works.items()):
        if name in layouts:
            try:
                results = work()
            except RuntimeError as error:  # FLA's gated kernels do not run with some versions of Triton
                print(f"    {name:24} {error}")
                del works[name]
                continue
            found[name] = errors(layouts[name](results), truth)
            print(f"    {name:24} errors of the output and gradients " + " ".join(f"{e:.1e}" for e in found[name]))
    return found


def timed(works: dict[str, Work], rounds: int, ours: str) -> Row:
    """Milliseconds one by one, and in CUDA graphs where that can be."""
    result: Row = {}
    graphs = {name: captured(work) for name, work in works.items()}
    for how, chosen in (("eager", works), ("graph", {n: g for n, g in graphs.items() if g is not None})):
        times = alternate(chosen, rounds)  # type: ignore[arg-type]
        for name, row in times.items():
            ratios = [b / a for a, b in zip(times[ours], row, strict=True)]
            print(
                f"    {how} {name:18} {statistics.median(row):8.4f} ms ({min(row):.4f} .. {max(row):.4f})   its time "
                f"over {ours}'s: {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})",
                flush=True,
            )
            result[f"{how} {name}"] = statistics.median(row)
    return result


def causal(steps: int, rounds: int, ops: list[str], decays: list[str]) -> Row:
    """Causal linear attention in bfloat16, with each of those decays, beside each of FLA's ops."""
    from fla.ops.linear_attn import chunk_linear_attn, fused_chunk_linear_attn
    from fla.ops.simple_gla import chunk_simple_gla, fused_chunk_simple_gla

    batch = TOKENS // steps
    q, k, v = (spikes(0.2, steps, batch, HEADS, WIDTH) for _ in range(3))
    grad = torch.randn(v.shape, device="cuda").bfloat16()
    by_head, by_step = -0.1 * torch.rand(HEADS, device="cuda"), -0.1 * torch.rand(steps, batch, HEADS, device="cuda")
    kinds: dict[str, tuple[Tensor | None, Row]] = {
        "none": (None, {"normalize": False}),
        "head": (by_head.expand(steps, batch, HEADS).contiguous(), {"g_gamma": by_head}),
        "step": (by_step, {"g": by_step.transpose(0, 1).contiguous()}),
    }
    linear = {"chunk": chunk_linear_attn, "fused_chunk": fused_chunk_linear_attn}
    gated = {"chunk": chunk_simple_gla, "fused_chunk": fused_chunk_simple_gla}
    theirs = [x.transpose(0, 1).contiguous() for x in (q, k, v)]
    back = grad.transpose(0, 1).contiguous()

    def parted(found: list[Tensor]) -> list[Tensor]:
        return [x.transpose(0, 1) for x in found]

    result: Row = {"case": f"causal, {batch} x {steps} tokens"}
    for name, (decay, options) in ((DECAYS[d], kinds[d]) for d in decays):
        print(f"\ncausal attention, {name}, {batch} sequences of {steps}, {HEADS} heads of {WIDTH}, bfloat16")

        def exact(q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None = decay) -> Tensor:
            state = q.new_zeros(*q.shape[1:], v.shape[-1])
            return chunkwise(q, k, v, None if decay is None else decay.double().unsqueeze(-1), None, state, 1.0)[0]

        truth = trained(exact, [q.double(), k.double(), v.double()], grad.double())()
        works: dict[str, Work] = {
            "spikenet": trained(lambda *x, decay=decay: causal_attention(*x, decay)[0], [q, k, v], grad)
        }
        theirs_by = {
            f"fla {op}": functools.partial((linear if decay is None else gated)[op], scale=1.0, **options) for op in ops
        }
        works |= {name: trained(lambda *x, by=by: by(*x)[0], theirs, back) for name, by in theirs_by.items()}
        found = compared(works, {"spikenet": list, "fla chunk": parted, "fla fused_chunk": parted}, truth)
        if decay is None:
            bits = torch.equal(works["spikenet"]()[0], truth[0].bfloat16())
            print(f"    spikenet's output is the exact count, rounded once: {bits}")
            assert bits
            heads = [x.transpose(1, 2).contiguous() for x in theirs]
            flash = functools.partial(torch.nn.functional.scaled_dot_product_attention, is_causal=True)
            works["flash attention"] = trained(flash, heads, back.transpose(1, 2).contiguous())
        assert max(found["spikenet"]) < 2e-2
        del truth
        torch.cuda.empty_cache()
        result[name] = {"errors": found, "ms": timed(works, rounds, "spikenet")}
        if decay is None:
            with torch.no_grad():
                forward = {
                    "spikenet": lambda: [causal_attention(q, k, v)[0]],
                    **{name: lambda by=by: [by(*theirs)[0]] for name, by in theirs_by.items()},
                }
                print("   forward alone")
                result["forward"] = timed(forward, rounds, "spikenet")
    return result


def spikingjelly() -> Callable[[Tensor], Tensor]:
    """Its SSA product on `[T, B, 3, H, D, N]`, channels before tokens, and its LIF."""
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.layer import SpikingSelfAttention

    lif = neuron.LIFNode(tau=2.0, v_threshold=0.5, detach_reset=True, step_mode="m")

    def run(qkv: Tensor) -> Tensor:
        functional.reset_net(lif)
        return lif(SpikingSelfAttention._ssa_kernel_torch(qkv, 0.125))

    return run


def product(dtype: torch.dtype, rounds: int, shape: tuple[int, ...] = (4, 64, 8, 196, 64)) -> Row:
    """The attention product with its LIF at the shapes of Spikformer-8-512, projections left out."""
    print(f"\nattention among tokens with its LIF, T, B, H, N, D = {shape}, {dtype}")
    q, k, v = (spikes(0.08, *shape).to(dtype) for _ in range(3))
    grad = torch.randn(v.shape, device="cuda").to(dtype)
    lif = LIF(2.0, 0.5, detach_reset=True, surrogate=surrogate.sigmoid(4.0)).cuda()

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return lif._scan([v], None, by=functools.partial(spiking_attention_lif, q, k, 0.125))[0]

    def apart(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return lif((q @ (k.mT @ v)) * 0.125)

    theirs = trained(spikingjelly(), [torch.stack([x.mT for x in (q, k, v)], 2)], grad.mT.contiguous())

    def parted(found: list[Tensor]) -> list[Tensor]:
        return [x.mT for x in (found[0], *found[1].unbind(2))]

    truth = trained(apart, [q.double(), k.double(), v.double()], grad.double())()
    works: dict[str, Work] = {
        "spikenet": trained(fused, [q, k, v], grad),
        "torch and LIF": trained(apart, [q, k, v], grad),
        "spikingjelly": theirs,
    }
    found = compared(works, {"spikenet": list, "torch and LIF": list, "spikingjelly": parted}, truth)
    same = torch.equal(works["spikenet"]()[0].double(), truth[0])
    print(f"    spikenet's spikes equal float64's: {same}; rate {float(truth[0].mean()):.3f}")
    assert same
    assert max(found["spikenet"]) < (1e-5 if dtype == torch.float32 else 2e-2)
    return {
        "case": f"product with LIF, {str(dtype)[6:]}",
        "errors": found,
        "same_spikes": same,
        "ms": timed(works, rounds, "spikenet"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one length and one dtype, few rounds")
    parser.add_argument("--rounds", type=int, default=7, help="alternations (default 7)")
    parser.add_argument("--part", choices=("causal", "product"), help="one half of it alone")
    parser.add_argument("--fla", nargs="*", choices=FLA, default=FLA, help="FLA's ops to time (default all)")
    parser.add_argument(
        "--decay", nargs="*", choices=DECAYS, default=[*DECAYS], help="of the causal part (default all)"
    )
    parser.add_argument(
        "--steps", nargs="*", type=int, default=LENGTHS, help="lengths of the causal part (default all)"
    )
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("This benchmark needs a CUDA device.")
        finish([])
        return
    torch.manual_seed(0)
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    rounds = 3 if options.quick else options.rounds
    results = []
    if options.part != "product":
        lengths = LENGTHS[1:2] if options.quick else options.steps
        results += [causal(steps, rounds, options.fla, options.decay) for steps in lengths]
    if options.part != "causal":
        dtypes = (torch.bfloat16, torch.float16, torch.float32)[: 1 if options.quick else 3]
        results += [product(dtype, rounds) for dtype in dtypes]
    finish(results)


if __name__ == "__main__":
    main()
