"""HD-SNN: its equation term by term, what it leaves out of the paper's, and that it learns motion."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikenet import Stream
from spikenet.errors import ShapeError
from spikenet.events import EventCamera, EventTensor, bin_by_time, binarize, motion_cloud, moving_window
from spikenet.models import HDSNN


def case() -> tuple[HDSNN, Tensor]:
    net = HDSNN((2, 6, 7), 3, taps=4, kernel_size=3).double()
    torch.nn.init.normal_(net.body[3].bias)
    return net, (torch.rand(9, 2, 2, 6, 7) < 0.3).double()


def test_equals_the_papers_maximum_for_opposite_kernels() -> None:
    """max(K * A, K * A swapped) + b by torch's convolution, the OFF kernel being the ON kernel's negative."""
    net, x = case()
    kernel = net.bank.weight.detach()[:, 0].permute(0, 3, 1, 2).flip(1)  # [C, taps, k, k], the latest tap first
    both = torch.stack([-kernel, kernel], 1)

    def convolved(a: Tensor) -> Tensor:
        return functional.conv3d(functional.pad(a.permute(1, 2, 0, 3, 4), (0, 0, 0, 0, 3, 0)), both)

    expected = (
        torch.maximum(convolved(x), convolved(x.flip(2))).permute(2, 0, 1, 3, 4) + net.body[3].bias[:, None, None]
    )
    torch.testing.assert_close(net.evidence(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(net(x), expected.mean((0, 3, 4)), atol=1e-12, rtol=0)
    stream = Stream(net)
    for step in x:
        answer = stream.step(step)
    torch.testing.assert_close(answer, net(x), atol=1e-12, rtol=0)
    events = EventTensor.from_dense(x)
    torch.testing.assert_close(net.float()(events), expected.mean((0, 3, 4)).float(), atol=1e-5, rtol=0)


def test_the_loss_is_cross_entropy_at_every_place() -> None:
    net, x = case()
    labels = torch.tensor([2, 0])
    p = net.evidence(x)[3:].softmax(2)
    expected = -torch.stack([p[:, b, label] for b, label in enumerate(labels.tolist())]).log().mean()
    torch.testing.assert_close(net.loss(x, labels), expected)


def test_learns_four_directions_of_textures_it_has_not_seen() -> None:
    """Chance is 25 %. The signs of contrast are symmetric, so without |.| nothing could be learned."""

    def recordings(seeds: range) -> tuple[Tensor, Tensor]:
        streams = []
        for seed in seeds:
            step = [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)][seed % 4]
            path = -torch.arange(25.0)[:, None] * torch.tensor(step)
            texture = motion_cloud((1, 32, 32), seed=seed)[0]
            seen = moving_window(texture, path, (14, 14), wrap=True)
            streams.append(EventCamera(0.5, 0.5)((0.5 * seen).exp(), torch.arange(25) * 1000))
        x = binarize(bin_by_time(streams, dt_us=1000, steps=24)).to_dense(torch.float32)
        return x, torch.tensor([seed % 4 for seed in seeds])

    net = HDSNN((2, 14, 14), 4, taps=6, kernel_size=7)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    x, labels = recordings(range(48))
    for _ in range(40):
        some = torch.randint(len(labels), (24,))
        optimiser.zero_grad()
        net.loss(x[:, some], labels[some]).backward()
        optimiser.step()
    x, labels = recordings(range(1000, 1040))
    with torch.no_grad():
        assert float((net(x).argmax(1) == labels).float().mean()) > 0.8


def test_refusals() -> None:
    with pytest.raises(ShapeError, match="two polarities"):
        HDSNN((1, 20, 20), 3)
    with pytest.raises(ShapeError, match=r"data of shape \(C, H, W\)"):
        HDSNN((700,), 3)
    net, x = case()
    with pytest.raises(ShapeError, match="past of 4, got 3 steps"):
        net.loss(x[:3], torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match="17 x 17"):
        HDSNN((2, 16, 20), 3)
    with pytest.raises(ShapeError, match="takes"):
        HDSNN((2, 20, 20), 3)(torch.zeros(30, 1, 2, 20, 21))
    assert HDSNN((2, 20, 20), 36).bank.weight.numel() == 36 * 21 * 17 * 17 == math.prod((36, 2, 21, 17, 17)) // 2
