"""Rules for products: convolutions, linear maps, events, recurrence, attention."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from spikenet.energy.parts import kind_of
from spikenet.energy.reach import reach, spread
from spikenet.energy.watch import Rule, Watch, bits_in
from spikenet.energy.work import Bits, Geometry


def _connection(
    watch: Watch,
    steps: int,
    found: Tensor,
    fanout: float,
    dense: float,
    inputs: float,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    geometry: Geometry,
    bits: int,
) -> None:
    samples = watch.call[1]
    fixed = {"inputs": inputs, "outputs": out.numel(), "dense_macs": dense}
    fixed["dense_weight_reads"] = weight.numel() * steps * samples
    if bias is not None:
        fixed["adds"] = out.numel()
    sizes = Bits(watch.bits("weight", weight), 0, bits, bits_in(out))
    watch.add("connection", steps, fixed, tallies=(found,), fanouts=(fanout,), bits=sizes, geometry=geometry)
    watch.connected.add(out)


def _geometry(weight: Tensor, inputs: int, outputs: int, kernel: int, groups: int, bias: Tensor | None) -> Geometry:
    parameters = weight.numel() + (0 if bias is None else bias.numel())
    return Geometry(inputs, outputs, kernel, groups, parameters, bias is not None)


# Convolutions.


def convolution(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """`aten::convolution`, transposed or not."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args
    axes = weight.ndim - 2
    strides, paddings, dilations = (spread(v, axes) for v in (stride, padding, dilation))
    kernel = tuple(weight.shape[2:])
    met = reach(tuple(x.shape[2:]), tuple(out.shape[2:]), kernel, strides, paddings, dilations, transposed)
    steps = watch.steps_of(x, folded=True)
    found = watch.tally(x, steps, met.to(x.device))
    _convolved(watch, steps, found, x.numel(), weight, bias, out, groups, transposed, bits_in(x))


def _convolved(
    watch: Watch,
    steps: int,
    found: Tensor,
    inputs: int,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    groups: int,
    transposed: bool,
    bits: int,
) -> None:
    taps = prod(weight.shape[2:])
    first, second = weight.shape[0], weight.shape[1] * groups
    into, outof = (first, second) if transposed else (second, first)
    positions = inputs // into if transposed else out.numel() // out.shape[1]
    geometry = _geometry(weight, into, outof, taps, groups, bias)
    _connection(
        watch, steps, found, outof // groups, positions * weight.numel(), inputs, weight, bias, out, geometry, bits
    )


def sparse_conv2d(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """`spikenet::sparse_conv2d`."""
    x, weight, bias, stride, padding, dilation, groups, _ = args
    convolution(watch, (x, weight, bias, stride, padding, dilation, False, [0], groups), {}, out)


def event_conv2d(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """`spikenet::event_conv2d`."""
    indptr, indices, values, weight, bias, size, stride, padding, dilation, groups, _ = args
    geometry = (spread(v, 2) for v in (stride, padding, dilation))
    met = reach(tuple(size), tuple(out.shape[2:]), tuple(weight.shape[2:]), *geometry, False)
    steps = _steps_of_rows(watch, indptr)
    found = watch.tally_events(values, indices, _starts(indptr, steps), met.to(values.device))
    inputs = (len(indptr) - 1) * weight.shape[1] * groups * prod(size)
    _convolved(watch, steps, found, inputs, weight, bias, out, groups, False, bits_in(values))


def _steps_of_rows(watch: Watch, indptr: Tensor) -> int:
    return watch.steps_of(indptr[1:])


def _starts(indptr: Tensor, steps: int) -> Tensor:
    return indptr[:: max((len(indptr) - 1) // steps, 1)].contiguous()


# Linear maps.


def _linear(watch: Watch, x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, outputs: int) -> None:
    """`x` `[M, K]` times a weight of `K * outputs` numbers."""
    steps = watch.steps_of(x)
    _mapped(watch, steps, watch.tally(x, steps), x.numel(), weight, bias, out, outputs, bits_in(x))


def _mapped(
    watch: Watch,
    steps: int,
    found: Tensor,
    inputs: int,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    outputs: int,
    bits: int,
) -> None:
    geometry = _geometry(weight, weight.numel() // max(outputs, 1), outputs, 1, 1, bias)
    _connection(watch, steps, found, outputs, inputs * outputs, inputs, weight, bias, out, geometry, bits)


def mm(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """`aten::mm`: a linear map where one side depends on weights alone, and a product of two activations elsewhere."""
    a, b = args
    _times(watch, a, b, None, out)


def mv(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """`aten::mv`, `aten::addmv`: one column."""
    *bias, a, b = args
    _times(watch, a, b.unsqueeze(-1), bias[0] if bias else None, out)


def dot(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """`aten::dot`."""
    a, b = args
    _times(watch, a.unsqueeze(0), b.unsqueeze(-1), None, out)


def addmm(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """`aten::addmm`, `aten::baddbmm`: the same with a bias."""
    bias, a, b = args
    _times(watch, a, b, bias, out)


def _times(watch: Watch, a: Tensor, b: Tensor, bias: Tensor | None, out: Tensor) -> None:
    if b in watch.fixed:
        _linear(watch, a.flatten(0, -2), _once(b), bias, out, b.shape[-1])
    elif a in watch.fixed:
        _linear(watch, b, _once(a), bias, out, a.shape[-2])
    else:
        product(watch, a, b, out)


def _once(weight: Tensor) -> Tensor:
    """The weight itself, where it was expanded over a batch."""
    repeated = [
        axis
        for axis, (size, stride) in enumerate(zip(weight.shape, weight.stride(), strict=True))
        if not stride and size > 1
    ]
    for axis in repeated:
        weight = weight.narrow(axis, 0, 1)
    return weight


def spike_linear(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """`spikenet::spike_linear`."""
    x, weight, bias = args
    _linear(watch, x, weight, bias, out[0], len(weight))


def sparse_linear(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """`spikenet::sparse_linear`."""
    x, weight, bias, _ = args
    _linear(watch, x, weight, bias, out, len(weight))


def event_linear(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    """`spikenet::event_linear`."""
    indptr, indices, values, weight, bias, _ = args
    steps = _steps_of_rows(watch, indptr)
    found = watch.tally_events(values, indices, _starts(indptr, steps))
    inputs = (len(indptr) - 1) * weight.shape[1]
    _mapped(watch, steps, found, inputs, weight, bias, out, len(weight), bits_in(values))


def recurrence(watch: Watch, z: Tensor, weight: Tensor, autapses: bool) -> None:
    """What a recurrent layer sends itself: a spike is charged when it is sent, so that parts add up."""
    steps, targets = watch.steps_of(z), len(weight) - (not autapses)
    geometry = _geometry(weight, len(weight), len(weight), 1, 1, None)
    found = watch.tally(z, steps)
    _connection(watch, steps, found, targets, z.numel() * targets, z.numel(), weight, None, z, geometry, bits_in(z))
    watch.connected.discard(z)


def sent(watch: Watch, layer: Any, x: Any, out: Tensor) -> None:
    """A layer that says itself what it `sends` through which torch layer's synapses, such as those with delays: a spike
    is charged when it is sent, also one so late that the sequence ends before it arrives."""
    values, plain = layer.sends(x, out)
    if isinstance(plain, nn.Linear):
        _linear(watch, values, plain.weight, plain.bias, out, plain.out_features)
    else:
        rows = values.flatten(0, 1)
        geometry = plain.stride, plain.padding, plain.dilation, False, [0], plain.groups
        convolution(watch, (rows, plain.weight, plain.bias, *geometry), {}, out.flatten(0, 1)[: len(rows)])
    if values is out:
        watch.connected.discard(out)  # neurons put it out


# Products of two activations.


def product(watch: Watch, a: Tensor, b: Tensor, out: Tensor) -> None:
    """`a` `[..., N, K]` times `b` `[..., K, M]`."""
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    steps = watch.steps_of(a) if a.ndim > 2 else 1
    found = watch.tally(a, steps), watch.tally(b, steps)
    fixed = {"inputs": a.numel() + b.numel(), "outputs": out.numel(), "dense_macs": out.numel() * inner}
    watch.add(
        "product",
        steps,
        fixed,
        tallies=found,
        pairs=_pairs(a, b, found, steps),
        fanouts=(columns, rows),
        bits=Bits(0, 0, bits_in(a), bits_in(out)),
        geometry=Geometry(inner, columns),
    )


def _pairs(a: Tensor, b: Tensor, found: tuple[Tensor, Tensor], steps: int) -> Tensor:
    """Multiplications with nothing 0, their |a| and their |b| added up, float64 ``[steps, 3]``."""
    (size_a, met_a), (size_b, met_b) = _sums(a, -2, found[0]), _sums(b, -1, found[1])
    both = torch.stack([met_a * met_b, size_a * met_b, met_a * size_b], -1)
    return both.reshape(steps, -1, 3).sum(1)


def _sums(x: Tensor, axis: int, found: Tensor) -> tuple[Tensor, Tensor]:
    """Sizes and non-zeros along an axis; of spikes they are the same (a GPU is not asked: it would be waited for)."""
    x = x.detach() if x.element_size() > 3 else x.detach().float()
    if x.device.type == "cpu" and kind_of(found.numpy()) == "spikes":
        total = x.sum(axis).double()
        return total, total
    return x.abs().sum(axis).double(), x.ne(0).to(x.dtype).sum(axis).double()


def attention(watch: Watch, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """`softmax(q k^T) v` in one: two products, of which the second has real weights, and the softmax."""
    q, k, v = args[:3]
    heads, many, length = prod(q.shape[:-2]), q.shape[-2], k.shape[-2]
    scores = q.new_empty(()).expand(*q.shape[:-2], many, length)
    product(watch, q, k.transpose(-2, -1), scores)
    steps, size = watch.steps_of(q), heads * many * length
    found = watch.tally(v, steps)
    real = found.new_zeros(found.shape)
    real[:, -1] = 1.0  # probabilities: what they are is not seen
    fixed = {"inputs": size + v.numel(), "outputs": out[0].numel(), "dense_macs": size * v.shape[-1]}
    watch.add(
        "product",
        steps,
        fixed,
        tallies=(real, found),
        pairs=found.new_zeros(len(found), 3),
        fanouts=(v.shape[-1], many),
        bits=Bits(0, 0, bits_in(v), bits_in(out[0])),
        geometry=Geometry(length, v.shape[-1]),
    )
    softmax = {"inputs": size, "outputs": size, "adds": 2 * size, "multiplies": 2 * size, "comparisons": size}
    watch.add("other", steps, softmax, bits=Bits(0, 0, bits_in(q), bits_in(q)))


RULES: dict[str, Rule] = {
    "convolution": convolution,
    "mm": mm,
    "bmm": mm,
    "addmm": addmm,
    "baddbmm": addmm,
    "mv": mv,
    "addmv": mv,
    "dot": dot,
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_flash_attention": attention,
    "_scaled_dot_product_efficient_attention": attention,
    "_scaled_dot_product_cudnn_attention": attention,
    "_scaled_dot_product_fused_attention_overrideable": attention,
    "spikenet::spike_linear": spike_linear,
    "spikenet::sparse_linear": sparse_linear,
    "spikenet::event_linear": event_linear,
    "spikenet::sparse_conv2d": sparse_conv2d,
    "spikenet::event_conv2d": event_conv2d,
}
