"""Readouts against torch's own reductions, whole and with lengths."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikenet import layers
from spikenet.errors import DtypeError, ShapeError

TRUTH = {
    layers.MeanReadout: lambda x: x.mean(0),
    layers.MaxReadout: lambda x: x.amax(0),
    layers.SoftmaxSumReadout: lambda x: x.softmax(-1).sum(0),
    layers.LastReadout: lambda x: x[-1],
}
readouts = pytest.mark.parametrize("readout", TRUTH)


def sequence() -> torch.Tensor:
    return torch.randn(13, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@readouts
def test_value_and_gradient(readout: type[nn.Module]) -> None:
    x = sequence().requires_grad_()
    truth = TRUTH[readout](x)
    got = readout()(x)
    torch.testing.assert_close(got, truth)
    weight = torch.randn_like(truth)
    grads = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (got, truth)]
    torch.testing.assert_close(*grads)


@readouts
def test_lengths_end_each_entry(readout: type[nn.Module]) -> None:
    x, lengths = sequence().requires_grad_(), torch.tensor([13, 1, 6, 9])
    truth = torch.stack([TRUTH[readout](x[:n, b]) for b, n in enumerate(lengths)])
    got = readout()(x, lengths)
    torch.testing.assert_close(got, truth)
    weight = torch.randn_like(truth)
    grads = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (got, truth)]
    assert grads[0].isfinite().all()
    torch.testing.assert_close(*grads)


@readouts
def test_a_nan_is_not_hidden(readout: type[nn.Module]) -> None:
    x = sequence()
    x[-1, 0, 0] = torch.nan
    assert readout()(x)[0].isnan().any()
    assert readout()(x)[1:].isfinite().all()


@readouts
def test_half_precision_sums_in_float32(readout: type[nn.Module]) -> None:
    x = torch.rand(600, 2, 3, generator=torch.Generator().manual_seed(1)).bfloat16()
    got = readout()(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), TRUTH[readout](x.float()), rtol=1e-2, atol=1e-2)


@readouts
def test_bad_input_is_refused(readout: type[nn.Module]) -> None:
    with pytest.raises(DtypeError, match="floating-point"):
        readout()(torch.ones(3, 2, 4, dtype=torch.int64))
    with pytest.raises(ShapeError, match="at least one step"):
        readout()(torch.ones(0, 2, 4))
    with pytest.raises(ShapeError, match=r"lengths must be 2 numbers from 1 to 3, got \[0, 3\]"):
        readout()(torch.ones(3, 2, 4), torch.tensor([0, 3]))
