"""Language models: bits per token against closed forms, and a training step against plain cross-entropy."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikenet.errors import DataError, DtypeError, ShapeError
from spikenet.events import EventTensor
from spikenet.training import NextToken, Optimiser, bits_per_token


class Table(nn.Module):
    """Logits that depend on the present token alone."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits[tokens]


def test_equal_chances_cost_the_logarithm_of_their_number() -> None:
    tokens = torch.randint(32, (500,))
    assert bits_per_token(Table(torch.zeros(32, 32)), tokens) == pytest.approx(5.0)


def test_a_certain_model_costs_nothing_and_a_half_certain_one_a_bit() -> None:
    tokens = torch.arange(4).repeat(40)
    certain = 100.0 * torch.eye(4).roll(1, 1)
    assert bits_per_token(Table(certain), tokens, rows=4) == pytest.approx(0.0, abs=1e-6)
    assert bits_per_token(Table(certain + certain.roll(1, 1)), tokens, rows=4) == pytest.approx(1.0)


def test_the_text_is_read_in_rows_side_by_side() -> None:
    tokens = torch.randint(6, (25,))
    model = Table(torch.randn(6, 6))
    rows = tokens[:24].view(3, 8)
    logs = [model.logits[a].log_softmax(-1)[b] for row in rows for a, b in pairwise(row)]
    assert bits_per_token(model, tokens, rows=3) == pytest.approx(
        -torch.stack(logs).mean().item() / math.log(2), rel=1e-5
    )
    with pytest.raises(ShapeError, match="two tokens a row"):
        bits_per_token(model, tokens, rows=13)


def test_the_loss_is_that_of_the_tokens_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    module = NextToken(Table(torch.randn(6, 6)), 6, Optimiser(label_smoothing=0.1))
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    tokens, following = torch.randint(6, (2, 9, 4)).unbind()
    smoothed = module._step("train", (tokens, following), 0, module.train_accuracy, 0.1)
    expected = functional.cross_entropy(module.model.logits[tokens].permute(0, 2, 1), following, label_smoothing=0.1)
    torch.testing.assert_close(smoothed, expected)


def test_tokens_outside_the_classes_are_refused() -> None:
    module = NextToken(Table(torch.randn(9, 6)), 6)
    good, bad = torch.randint(6, (4, 2)), torch.full((4, 2), 7)
    for batch, name in (((bad, good), "tokens"), ((good, bad), "labels")):
        with pytest.raises(DataError, match=f"train batch 3 of epoch 1 holds {name} 7 to 7; the 6 classes"):
            module._step("train", batch, 3, module.train_accuracy, 0.0)
    with pytest.raises(DtypeError, match=r"EventTensor"):
        module._step("train", (EventTensor.from_dense(torch.ones(4, 2, 3)), good), 3, module.train_accuracy, 0.0)
    with pytest.raises(DtypeError, match=r"tokens of torch.float32"):
        module._step("train", (good.float(), good), 3, module.train_accuracy, 0.0)
