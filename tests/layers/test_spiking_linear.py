"""The linear layer for spikes is `nn.Linear` in all but what it keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import ArgumentError, BackendError, DeviceError, DtypeError, ShapeError
from spikenet.kernels import use_backend
from spikenet.kernels.synapse import spike_linear
from spikenet.layers import SpikingLinear, Stream
from spikenet.neurons import LIF


def pair(bias: bool = True, dtype: torch.dtype = torch.float64, device: str = "cpu") -> tuple[nn.Linear, nn.Linear]:
    """Ours and torch's, with the same weights."""
    ours = SpikingLinear(37, 11, bias=bias, device=device, dtype=dtype)
    theirs = nn.Linear(37, 11, bias=bias, device=device, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def spikes(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(1)) < 0.3).to(dtype)


def results(layer: nn.Module, x: Tensor, gy: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], gy)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(6, 3), (5,), (), (2, 3, 4), (0, 3)])
def test_outputs_and_gradients_are_those_of_linear_in_float64(leading: tuple[int, ...], bias: bool) -> None:
    x, gy = spikes(*leading, 37), torch.randn(*leading, 11, dtype=torch.float64)
    for ours, theirs in zip(*(results(layer, x, gy) for layer in pair(bias)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_precisions(dtype: torch.dtype) -> None:
    x, gy = spikes(6, 3, 37, dtype=dtype), torch.randn(6, 3, 11).to(dtype)
    for ours, theirs in zip(*(results(layer, x, gy) for layer in pair(dtype=dtype)), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs)


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """What the graph keeps beyond the layer's own parameters."""
    parameters, kept = {p.data_ptr() for p in layer.parameters()}, 0

    def keep(t: Tensor) -> Tensor:
        nonlocal kept
        kept += 0 if t.data_ptr() in parameters else t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layer(x)
    return kept


def test_one_bit_a_spike_is_kept() -> None:
    x = spikes(40, 5, 37, dtype=torch.float32)
    ours, theirs = pair(dtype=torch.float32)
    assert saved_bytes(theirs, x) == 40 * 5 * 37 * 4
    assert saved_bytes(ours, x) == 40 * 5 * 37 // 8
    ours.weight.requires_grad_(False)
    assert saved_bytes(ours, x.requires_grad_()) <= 40 * 5 * 37 // 8


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_strided_input_on_every_backend(backend: str) -> None:
    ours, theirs = pair()
    x = spikes(3, 6, 37).transpose(0, 1)
    with use_backend(backend):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("grad", [True, False])
def test_anything_but_spikes_raises(grad: bool) -> None:
    layer, x = pair()[0], spikes(4, 2, 37)
    x[2, 1, 30] = 0.25
    with torch.set_grad_enabled(grad), pytest.raises(ArgumentError, match=r"0 or 1, and .* another value: 0.25"):
        layer(x)


def test_inference_records_nothing() -> None:
    ours, theirs = pair()
    with torch.no_grad():
        y = ours(spikes(4, 2, 37))
    assert not y.requires_grad
    torch.testing.assert_close(y, theirs(spikes(4, 2, 37)), rtol=1e-13, atol=1e-13)
    with torch.inference_mode():
        assert torch.equal(ours(spikes(4, 2, 37)), y)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(backend: str) -> None:
    ours, _ = pair()
    x, gy = spikes(4, 2, 37), torch.randn(4, 2, 11, dtype=torch.float64)
    compiled: Any = torch.compile(ours, backend=backend, fullgraph=True)
    for got, expected in zip(results(compiled, x, gy), results(ours, x, gy), strict=True):
        assert torch.equal(got, expected)


def test_the_operator_keeps_torchs_rules() -> None:
    layer = pair(dtype=torch.float32)[0]
    x = spikes(6, 37, dtype=torch.float32).requires_grad_()
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.spikenet.spike_linear, (x, layer.weight, layer.bias), test_utils=checks)
    words = torch.ops.spikenet.pack(x.detach())
    arguments = (words, layer.weight.detach(), torch.randn(6, 11), True, True)
    torch.library.opcheck(torch.ops.spikenet.spike_linear_backward, arguments, test_utils=checks)


def test_autocast_takes_half_precision() -> None:
    net = nn.Sequential(pair(dtype=torch.float32)[0], LIF(), SpikingLinear(11, 3))
    with torch.autocast("cpu", torch.bfloat16):
        y = net(spikes(5, 2, 37, dtype=torch.float32))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in net.parameters())


def test_the_operator_has_the_dtype_of_its_spikes_under_autocast() -> None:
    layer, seen = pair(dtype=torch.float32)[0], []
    x = spikes(6, 37, dtype=torch.float32).requires_grad_()
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = spike_linear(x, layer.weight, layer.bias)
            seen.append([y, *torch.autograd.grad(y.sum(), [x, layer.weight, layer.bias])])
    for plain, cast in zip(*seen, strict=True):
        assert plain.dtype == cast.dtype == torch.float32
        assert torch.equal(plain, cast)


def test_a_frozen_weight_keeps_no_spikes() -> None:
    layer, kept = pair(dtype=torch.float32)[0].requires_grad_(False), []
    x = spikes(640, 37, dtype=torch.float32).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        y = layer(x)
    assert [t.untyped_storage().nbytes() for t in kept if t.dtype == torch.uint8] == [0]
    y.sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(640, 37))


def test_a_network_of_spikes_streams() -> None:
    net = nn.Sequential(SpikingLinear(37, 11), LIF(v_threshold=0.2), SpikingLinear(11, 3)).double()
    x, stream = spikes(9, 2, 37), Stream(net)
    torch.testing.assert_close(torch.stack([stream.step(x_t) for x_t in x]), net(x), rtol=1e-12, atol=1e-12)


def test_what_is_refused() -> None:
    layer = pair()[0]
    with pytest.raises(ShapeError, match=r"SpikingLinear takes \[\.\.\., 37\], got \(4, 36\)"):
        layer(spikes(4, 36))
    with pytest.raises(DtypeError, match=r"spikes are torch\.float32, the weight torch\.float64"):
        layer(spikes(4, 37, dtype=torch.float32))
    x, weight = spikes(4, 37), layer.weight
    with pytest.raises(ShapeError, match=r"takes a bias of shape \(11,\), got \(1, 11\)"):
        spike_linear(x, weight, torch.zeros(1, 11, dtype=torch.float64))
    with pytest.raises(DtypeError, match=r"spikes are torch\.float64, the bias torch\.float32"):
        spike_linear(x, weight, torch.zeros(11))
    with pytest.raises(DeviceError, match=r"spikes are on cpu, the bias on meta"):
        spike_linear(x, weight, torch.zeros(11, dtype=torch.float64, device="meta"))
    with pytest.raises(DeviceError, match="the spikes are on cpu, the weight on meta"):
        pair(device="meta")[0](spikes(4, 37))
    with pytest.raises(ShapeError, match=r"spike_linear takes \[M, 37\], got \(2, 4, 37\)"):
        spike_linear(spikes(2, 4, 37), layer.weight)
    x = spikes(4, 37).requires_grad_()
    (gx,) = torch.autograd.grad(layer(x).sum(), x, retain_graph=True)
    assert gx.shape == x.shape
    with pytest.raises(BackendError, match="no second derivative"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_on_the_gpu(dtype: torch.dtype) -> None:
    """Beside `nn.Linear`, without TF32; `test_split.py` has the errors against float64."""
    ours, theirs = pair(dtype=dtype, device="cuda")
    for rows in (0, 1, 3000):
        x, gy = spikes(rows, 37, dtype=dtype).cuda(), torch.randn(rows, 11).to("cuda", dtype)
        for mine, plain in zip(results(ours, x, gy), results(theirs, x, gy), strict=True):
            tolerance = {torch.float32: 2e-6, torch.float64: 1e-12, torch.bfloat16: 2e-2}[dtype]
            torch.testing.assert_close(mine, plain, rtol=tolerance, atol=tolerance * max(1.0, rows**0.5))


@pytest.mark.gpu
def test_under_cuda_graphs() -> None:
    layer = SpikingLinear(64, 32, device="cuda")
    x = spikes(128, 64, dtype=torch.float32).cuda()
    expected = layer(x).detach()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(3):
            layer(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        y = layer(x)
    graph.replay()
    assert torch.equal(y, expected)
