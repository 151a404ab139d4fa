"""WKV against its sum written out, closed forms and float64 autograd."""

import pytest
import torch
from torch import Tensor

from spikenet import Stream
from spikenet.layers import WKV, TokenShift


def written_out(k: Tensor, v: Tensor, decay: Tensor, first: Tensor) -> Tensor:
    """The definition, O(T^2): a softmax over the past for every channel."""
    T, rate = len(k), decay.exp()
    rows = []
    for t in range(T):
        age = torch.arange(t - 1, -1, -1, dtype=k.dtype)[:, None, None]
        scores = torch.cat([k[:t] - age * rate, (first + k[t])[None]])
        rows.append((scores.softmax(0) * v[: t + 1]).sum(0))
    return torch.stack(rows)


def numbers(T: int, *, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    k, v = torch.randn(2, T, 3, 5, dtype=dtype).unbind()
    return [each.requires_grad_() for each in (k, v, torch.randn(5, dtype=dtype), torch.randn(5, dtype=dtype))]


@pytest.mark.parametrize("T", [1, 2, 17, 130])
def test_recurrence_and_its_gradients_are_those_of_the_sum(T: int) -> None:
    given = numbers(T)
    k, v, decay, first = (each.detach().clone().requires_grad_() for each in given)
    layer = WKV(torch.nn.Parameter(decay), torch.nn.Parameter(first))
    y, expected = layer(k, v), written_out(*given)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    for got, each in zip((k, v, layer.decay, layer.first), given, strict=True):
        torch.testing.assert_close(got.grad, each.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("T", [17, 257])
def test_float32_is_close_to_the_sum(T: int) -> None:
    k, v, decay, first = (each.detach() for each in numbers(T, dtype=torch.float32))
    torch.testing.assert_close(WKV(decay, first)(k, v), written_out(k, v, decay, first), rtol=1e-5, atol=1e-5)


def test_extreme_keys_stay_finite() -> None:
    k, v = 80.0 * torch.randint(-1, 2, (64, 2, 4)).float(), torch.randn(64, 2, 4)
    decay, first = torch.linspace(-5, 3, 4), torch.zeros(4)
    expected = written_out(k.double(), v.double(), decay.double(), first.double())
    torch.testing.assert_close(WKV(decay, first)(k, v).double(), expected, rtol=1e-4, atol=1e-4)  # e^80 of float32


def test_without_decay_and_with_equal_keys_it_is_the_mean_so_far() -> None:
    v = torch.randn(9, 2, 3).double()
    y = WKV(-200.0, 0.0)(torch.full_like(v, 0.7), v)
    torch.testing.assert_close(y, v.cumsum(0) / torch.arange(1, 10).view(-1, 1, 1))


def test_with_infinite_decay_only_two_tokens_count() -> None:
    k, v = torch.randn(2, 9, 2, 3).double().unbind()
    before, now = k[:-1].exp(), (0.3 + k[1:]).exp()
    expected = (before * v[:-1] + now * v[1:]) / (before + now)
    torch.testing.assert_close(WKV(7.0, 0.3)(k, v)[1:], expected)


def test_shift_and_average_go_on_in_a_stream() -> None:
    k, v = torch.randn(2, 9, 2, 3).double().unbind()

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift, self.wkv = TokenShift(), WKV(-1.0, 0.2)

        def forward(self, x: Tensor) -> Tensor:
            return self.wkv(self.shift(x), x)

    stream = Stream(Both())
    parts = torch.cat([stream(part) for part in v.split([1, 4, 2, 2])])
    assert torch.equal(parts, Both()(v))
    assert torch.equal(TokenShift()(k)[1:], k[:-1])
    assert not TokenShift()(k)[0].any()


def test_an_empty_chunk_shifts_nothing() -> None:
    x, stream = torch.randn(4, 2, 3), Stream(TokenShift())
    parts = [stream(part) for part in (x[:2], x[2:2], x[2:])]
    assert torch.equal(torch.cat(parts), TokenShift()(x))
