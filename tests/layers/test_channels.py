"""A batch norm and its neuron as one operation: the same as one after the other, and never behind a hook's back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from spikenet import Stream
from spikenet.kernels import use_backend
from spikenet.kernels.norm import norm_scan
from spikenet.kernels.norm.fused import NormBound
from spikenet.layers import Chain, ChannelNorm, ConvNorm, LinearNorm, SpikePool, channels
from spikenet.neurons import LIF, PSN


def layers(pool: bool = False) -> list[nn.Module]:
    return [ConvNorm(3, 5), LIF(2.0, 0.4), SpikePool(), ConvNorm(5, 4, 1, pool=pool), LIF(2.0, 0.4), LinearNorm(4, 6)]


def results(net: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, the gradients, and what the norms have kept."""
    x = x.detach().requires_grad_()
    y = net(x)
    gradients = torch.autograd.grad(y, [x, *net.parameters()], torch.cos(torch.arange(y.numel())).view(y.shape).to(y))
    return [y.detach(), *gradients, *net.buffers()]


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_chain_is_its_layers_in_turn(training: bool, pool: bool) -> None:
    chain = Chain(*layers(pool)).double().train(training)
    plain = nn.Sequential(*copy.deepcopy(list(chain))).train(training)
    assert chain.state_dict().keys() == plain.state_dict().keys()
    x = 3.0 * torch.randn(4, 2, 8, 8, 3).double()
    for a, b in zip(results(chain, x), results(plain, x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_norm_and_neuron_are_one_operation_unless_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[object] = []
    monkeypatch.setattr(channels, "norm_scan", lambda *given: together.append(given) or norm_scan(*given))
    chain, x = Chain(LinearNorm(4, 6), LIF(2.0, 0.4)), torch.randn(3, 5, 4)
    chain(x)
    assert len(together) == 1
    heard: list[nn.Module] = []
    for module in (chain[0], chain[0].norm, chain[1]):
        handle = module.register_forward_hook(lambda module, *_: heard.append(module))
        chain(x)
        handle.remove()
        assert heard.pop() is module
    for odd in ({"momentum": None}, {"affine": False}, {"track_running_stats": False}):
        other = LinearNorm(4, 6)
        other.norm = ChannelNorm(6, **odd)  # type: ignore[arg-type]
        Chain(other, LIF(2.0, 0.4))(x)
    Chain(LinearNorm(4, 6), PSN(3))(x)
    assert len(together) == 1


def test_a_stream_carries_the_neurons_states() -> None:
    chain = Chain(LinearNorm(4, 6), LIF(2.0, 0.4)).eval()
    x = 3.0 * torch.randn(5, 2, 4)
    stream = Stream(chain)
    assert torch.equal(torch.stack([stream.step(step) for step in x]), chain(x))


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")
def test_in_the_kernel_too() -> None:
    """Call by call: from the second on past all lookups."""
    first, second = (LIF(2.0, 0.4, detach_reset=True) for _ in range(2))
    chain = Chain(ConvNorm(3, 5), first, LinearNorm(5, 4), second)
    nn.init.normal_(chain[2].linear.bias, std=3.0)  # type: ignore[arg-type]
    plain = nn.Sequential(*copy.deepcopy(list(chain))).double()
    for x in (3.0 * torch.randn(3, 4, 2, 6, 6, 3)).unbind():
        with use_backend("triton"):
            found = results(chain, x)
        for a, b in zip(found, results(plain, x.double()), strict=True):
            torch.testing.assert_close(a.double(), b.double(), atol=1e-4, rtol=1e-4)
    assert [type(bound) for neuron in (first, second) for bound in neuron._kept.bound.values()] == 2 * [NormBound]
    assert chain[2].norm.num_batches_tracked == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")
def test_a_compiled_chain_moves_its_running_statistics_too() -> None:
    chain, x = Chain(LinearNorm(4, 6), LIF(2.0, 0.4, detach_reset=True)), torch.randn(3, 5, 4)
    same = copy.deepcopy(chain)
    with use_backend("triton"):
        compiled = torch.compile(chain, backend="aot_eager", fullgraph=True)
        for net in (compiled, same):
            net(x).sum().backward()
    for a, b in zip([*chain.buffers()], [*same.buffers()], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(same[0].norm.running_mean, torch.zeros(6))
    for p, q in zip(chain.parameters(), same.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
