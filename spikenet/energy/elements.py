"""Rules for what is no product of weights or activations: elementwise operations, reductions, pooling, norms, neurons.

An operation such as exp or a division counts as one multiplication. What only moves, copies, selects or draws numbers
is free.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

from torch import Tensor

from spikenet.energy.connections import recurrence
from spikenet.energy.neurons import NeuronCost, cost_of_program
from spikenet.energy.reach import reach, spread
from spikenet.energy.watch import Rule, Watch, bits_in, tensors
from spikenet.energy.work import Bits
from spikenet.kernels.attention import spiking_attention
from spikenet.kernels.attention.reference import recurrent
from spikenet.layers import Recurrent


def _named(words: str) -> list[str]:
    return words.split()


FREE = _named("""
_reshape_alias _to_copy _unsafe_view alias argmax argmin argsort bernoulli cat clone col2im complex constant_pad_nd
contiguous copy detach diag_embed diagonal_scatter embedding empty empty_like expand exponential fill flip full
full_like gather im2col imag index index_copy index_put index_select is_same_size lift_fresh lift_fresh_copy
isfinite isinf isnan nonzero masked_fill masked_scatter masked_select native_dropout new_empty new_full new_ones
new_zeros normal ones_like pixel_shuffle pixel_unshuffle rand_like randn_like random real reflection_pad1d
reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d
resize roll scatter select_scatter set slice_scatter split_with_sizes_copy stack tril triu unfold uniform
unsafe_split unsafe_split_with_sizes upsample_nearest1d upsample_nearest2d upsample_nearest3d where zero zeros_like
_foreach_copy nan_to_num
""")

# Adds, multiplies and comparisons for each element of the output ...
_ADD, _MULTIPLY, _COMPARE = (1, 0, 0), (0, 1, 0), (0, 0, 1)
ELEMENTWISE: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys(("add", "sub", "rsub", "logaddexp"), _ADD),
    **dict.fromkeys(("addcmul", "addcdiv", "lerp"), (1, 1, 0)),
    **dict.fromkeys(
        _named("""
            mul div reciprocal square pow sqrt rsqrt exp exp2 expm1 log log1p log2 sin cos tan asin acos atan
            atan2 sinh cosh tanh erf erfc erfinv sigmoid logit remainder fmod hypot softplus log_sigmoid_forward
        """),
        _MULTIPLY,
    ),
    **dict.fromkeys(("silu", "gelu", "mish", "elu", "celu", "selu"), (0, 2, 1)),
    **dict.fromkeys(("hardsigmoid", "hardswish"), (1, 1, 2)),
    **dict.fromkeys(("leaky_relu", "_prelu_kernel", "rrelu_with_noise"), (0, 1, 1)),
    **dict.fromkeys(
        _named("""
            relu clamp clamp_min clamp_max hardtanh threshold hardshrink softshrink maximum minimum fmax fmin
            sign sgn floor ceil round trunc frac heaviside gt ge lt le eq ne
        """),
        _COMPARE,
    ),
    **dict.fromkeys(("neg", "abs"), (0, 0, 0)),
    "glu": (0, 2, 0),
    "grid_sampler_2d": (3, 4, 0),
    **dict.fromkeys(("upsample_linear1d",), (1, 2, 0)),
    **dict.fromkeys(("upsample_bilinear2d", "_upsample_bilinear2d_aa"), (3, 4, 0)),
    **dict.fromkeys(("upsample_bicubic2d", "_upsample_bicubic2d_aa"), (15, 16, 0)),
}
# ... and of the input.
REDUCING: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys(("sum", "mean", "nansum", "cumsum", "index_add", "scatter_add"), _ADD),
    **dict.fromkeys(("prod", "cumprod"), _MULTIPLY),
    **dict.fromkeys(("amax", "amin", "max", "min", "aminmax", "cummax", "cummin", "sort", "topk", "median"), _COMPARE),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), (3, 1, 0)),
    **dict.fromkeys(("norm", "linalg_vector_norm"), (1, 1, 0)),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax", "logsumexp"), (2, 2, 1)),
    "logcumsumexp": (2, 2, 0),
}
NORMS = ("native_layer_norm", "native_group_norm", "_fused_rms_norm")
BATCH_NORMS = (
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    *("_batch_norm_with_update", "_batch_norm_no_update", "cudnn_batch_norm", "miopen_batch_norm"),
)


def _other(watch: Watch, operation: str, x: Tensor, out: Tensor, elements: int, each: tuple[float, ...]) -> None:
    if watch.stack[-1].neuron is None and any(each):
        names = ("adds", "multiplies", "comparisons")
        fixed = {name: elements * cost for name, cost in zip(names, each, strict=True) if cost}
        fixed |= {"inputs": x.numel(), "outputs": out.numel()}
        watch.add(operation, watch.steps_of(x), fixed, bits=Bits(0, 0, bits_in(x), bits_in(out)))


def _largest(args: tuple[Any, ...]) -> Tensor:
    return max(tensors(args), key=Tensor.numel)


def _elementwise(
    each: tuple[float, ...], watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> None:
    (result, *_) = tensors(out)
    watch.connected.discard(result)  # where it was written over
    _other(watch, "other", _largest(args), result, result.numel(), each)


def _reducing(each: tuple[float, ...], watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    x, (result, *_) = _largest(args), tensors(out)
    _other(watch, "other", x, result, x.numel(), each)


def _add(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """Weights that are added to what a connection put out are its bias."""
    added = list(tensors(args))
    biased = len(added) == 2 and any(t in watch.connected for t in added) and any(t in watch.fixed for t in added)
    _elementwise(_ADD, watch, args, kwargs, out)
    if biased:
        watch.connected.add(out)


def _multiply(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """Two activations, element by element: spikes select, one accumulate where both are not 0."""
    factors = [t for t in tensors(args) if t not in watch.fixed and t.numel() > 1]
    if len(factors) < 2 or watch.stack[-1].neuron is not None:
        _elementwise(_MULTIPLY, watch, args, kwargs, out)
        return
    a, b = (factor.expand_as(out) for factor in factors)
    steps = watch.steps_of(out)
    found, both = (watch.tally(a, steps), watch.tally(b, steps)), watch.tally(out, steps)
    fixed = {"inputs": a.numel() + b.numel(), "outputs": out.numel(), "dense_macs": out.numel()}
    pairs = both[:, [1, 0, 0]]
    watch.add(
        "product", steps, fixed, tallies=found, pairs=pairs, fanouts=(1, 1), bits=Bits(0, 0, bits_in(a), bits_in(out))
    )


def _moved(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """A copy of what a connection put out is the same."""
    if isinstance(args[0], Tensor) and args[0] in watch.connected:
        watch.connected.add(out)


def _batch_norm(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Behind a connection it is part of its weights at inference; elsewhere a scale and a shift."""
    if args[0] not in watch.connected:
        _other(watch, "norm", args[0], out[0], args[0].numel(), (1, 1, 0))


def _norm(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Mean, variance, scale and shift of each element."""
    _other(watch, "norm", args[0], next(tensors(out)), args[0].numel(), (4, 3, 0))


def _pool(average: bool, axes: int, watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Windows reach what a convolution's kernel does: at a border, what lies inside."""
    x, (result, *_) = args[0], tensors(out)
    kernel, stride, padding, dilation = (*args[1:], *((), (0,), (1,))[len(args) - 2 :])[:4]
    dilation = (1,) if average else dilation  # there stands how an average rounds
    sizes = tuple(x.shape[-axes:]), tuple(result.shape[-axes:])
    met = reach(*sizes, *(spread(v, axes) for v in (kernel, stride or kernel, padding, dilation)), False)
    _pooled(average, watch, x, result, int(met.sum()) * prod(x.shape[:-axes]))


def _adaptive_pool(
    average: bool, axes: int, watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> None:
    x, (result, *_) = args[0], tensors(out)
    sizes = zip(x.shape[-axes:], result.shape[-axes:], strict=True)
    met = prod(sum(-(-(i + 1) * n // m) - i * n // m for i in range(m)) for n, m in sizes)
    _pooled(average, watch, x, result, met * prod(x.shape[:-axes]))


def _pooled(average: bool, watch: Watch, x: Tensor, result: Tensor, met: int) -> None:
    """An addition for each value `met` in a window and a multiplication a window, or comparisons."""
    steps = watch.steps_of(x, folded=True)
    work = {"adds": met, "multiplies": result.numel()} if average else {"comparisons": met}
    fixed = {"inputs": x.numel(), "outputs": result.numel(), **work}
    watch.add("pool", steps, fixed, tallies=(watch.tally(x, steps),), bits=Bits(0, 0, bits_in(x), bits_in(result)))


# Neurons.


def neuron(watch: Watch, x: Tensor, out: Tensor, cost: NeuronCost, state_bits: int) -> None:
    """Updates, and the spikes sent."""
    steps, n = watch.steps_of(out), out.numel()
    fixed = {
        "inputs": x.numel(),
        "outputs": n,
        "updates": n,
        "adds": n * cost.adds,
        "multiplies": n * cost.multiplies,
        "comparisons": n * cost.comparisons,
        "state_reads": n * cost.states,
        "state_writes": n * cost.states,
    }
    sizes = Bits(0, state_bits, bits_in(x), bits_in(out))
    watch.add("neuron", steps, fixed, tallies=(watch.tally(out, steps),), bits=sizes, resets=cost.resets)


def _dynamics(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """`spikenet::dynamics`."""
    program, inputs, state = args[:3]
    neuron(watch, inputs[0], out[0], cost_of_program(program), watch.bits("state", state[0]) if state else 0)


def _recurrent(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """`spikenet::recurrent`: the neurons, and their connections to each other."""
    program, inputs, _, weight, _, state = args[:6]
    neuron(watch, inputs[0], out[0], cost_of_program(program), watch.bits("state", state[0]) if state else 0)
    layer = watch.stack[-1].module
    recurrence(watch, out[0], weight, not isinstance(layer, Recurrent) or layer.autapses)


def _attention_neuron(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """`spikenet::attention_neuron`: charged as the plain form, product by product, and the neurons."""
    q, k, v, program, state, _, scale = args
    with watch:
        x = spiking_attention(q, k, v, scale)
    neuron(watch, x, out[0], cost_of_program(program), bits_in(state[0]) if state else 0)


def _causal_attention(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """`spikenet::causal_attention` in all its forms, the delta rule's with `beta` too: charged as the recurrence that
    they compute, step by step, whatever the chunks."""
    q, k, v, decay, *beta, state, scale = args
    start = out[1].new_zeros(out[1].shape) if state is None else state
    q, k, v = (t.to(start.dtype) for t in (q, k, v))
    with watch:
        recurrent(q, k, v, decay, beta[0] if beta else None, start, scale)


RULES: dict[str, Rule | None] = {
    **dict.fromkeys(FREE, None),
    **{name: partial(_elementwise, each) for name, each in ELEMENTWISE.items()},
    **{name: partial(_reducing, each) for name, each in REDUCING.items()},
    **dict.fromkeys(("clone", "_to_copy"), _moved),
    **dict.fromkeys(NORMS, _norm),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    **{f"avg_pool{axes}d": partial(_pool, True, axes) for axes in (1, 2, 3)},
    **{f"max_pool{axes}d_with_indices": partial(_pool, False, axes) for axes in (2, 3)},
    **{f"_adaptive_avg_pool{axes}d": partial(_adaptive_pool, True, axes) for axes in (2, 3)},
    **{f"adaptive_max_pool{axes}d": partial(_adaptive_pool, False, axes) for axes in (2, 3)},
    "add": _add,
    "mul": _multiply,
    "spikenet::dynamics": _dynamics,
    "spikenet::recurrent": _recurrent,
    "spikenet::attention_neuron": _attention_neuron,
    **dict.fromkeys(("spikenet::causal_attention", "spikenet::causal_attention_cpu"), _causal_attention),
    "spikenet::linear_scan": partial(_elementwise, (1, 1, 0)),
}
