"""The training step: the schedule in closed form, the loss against torch, refusals in words."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from spikenet.errors import ArgumentError, DataError, DtypeError, RunError, ShapeError, UnknownNameError
from spikenet.events import EventTensor
from spikenet.training import Classifier, Optimiser, batch_seed
from spikenet.training.module import check_batch, check_logits

LABELS = torch.tensor([0, 2])


class Mean(nn.Module):
    """Logits: a linear map of the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: EventTensor | torch.Tensor) -> torch.Tensor:
        dense = x.to_dense() if isinstance(x, EventTensor) else x
        return self.linear(dense.mean(0))


def test_schedule_rises_linearly_and_falls_as_half_a_cosine() -> None:
    scale = Optimiser(warmup=0.1, final_lr=0.2).scale
    assert [scale(step, 100) for step in range(10)] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert scale(10, 100) == pytest.approx(1.0)
    assert scale(55, 100) == pytest.approx(0.6)
    assert scale(100, 100) == pytest.approx(0.2)
    assert Optimiser(warmup=0.0).scale(0, 10) == 1.0


def test_a_final_share_of_one_keeps_the_rate() -> None:
    assert {Optimiser(warmup=0, final_lr=1).scale(step, 7) for step in range(8)} == {1.0}


@pytest.mark.parametrize(
    "wrong",
    [{"lr": 0}, {"lr": math.nan}, {"warmup": 1.5}, {"final_lr": -1}, {"label_smoothing": 2}]
    + [{"weight_decay": w} for w in (-1.0, math.nan, math.inf)],
)
def test_options_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ArgumentError, match=f"optim.{next(iter(wrong))}"):
        Optimiser(**wrong)


def test_an_unknown_schedule_and_a_cycle_of_one_epoch_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"linear.*Known: cosine, one-cycle"):
        Optimiser(schedule="linear")  # type: ignore[arg-type]
    module = Classifier(Mean(), 3, Optimiser(schedule="one-cycle"))
    module.trainer = SimpleNamespace(max_epochs=1, estimated_stepping_batches=4)  # type: ignore[assignment]
    with pytest.raises(ArgumentError, match="2 epochs or more, got 1"):
        module.configure_optimizers()


def test_norms_and_biases_do_not_decay() -> None:
    first, second = Classifier(Mean(), 3, Optimiser(weight_decay=0.3))._groups()
    assert ([p.dim() for p in first["params"]], first["weight_decay"]) == ([2], 0.3)
    assert ([p.dim() for p in second["params"]], second["weight_decay"]) == ([1], 0.0)


def test_a_step_on_events_gives_the_cross_entropy_of_the_logits() -> None:
    dense = (torch.rand(5, 2, 4) < 0.4).float()
    module = Classifier(Mean(), 3)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    loss = module._step("valid", (EventTensor.from_dense(dense), LABELS), 0, module.valid_accuracy, 0.0)
    expected = -module.model.linear(dense.mean(0)).log_softmax(-1)[[0, 1], LABELS].mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_batches_that_train_on_nonsense_are_refused() -> None:
    fine = torch.ones(5, 2, 4)
    check_batch(fine, LABELS, 3, "train batch 0")
    with pytest.raises(DtypeError, match=r"train batch 7.*int64.*float"):
        check_batch(fine.long(), LABELS, 3, "train batch 7")
    for wrong in (math.nan, math.inf):
        with pytest.raises(DataError, match=r"train batch 7.*not finite"):
            check_batch(fine.index_fill(2, torch.tensor(1), wrong), LABELS, 3, "train batch 7")
    with pytest.raises(DataError, match=r"labels 0 to 3.*3 classes"):
        check_batch(fine, torch.tensor([0, 3]), 3, "train batch 7")
    with pytest.raises(DataError, match=r"labels -1"):
        check_batch(fine, torch.tensor([0, -1]), 3, "train batch 7")


def test_labels_that_are_no_numbers_of_classes_are_refused() -> None:
    with pytest.raises(DtypeError, match=r"train batch 7 holds labels of torch.float32"):
        check_batch(torch.ones(5, 2, 4), LABELS.float(), 3, "train batch 7")


def test_a_nan_hidden_in_an_event_tensor_is_found() -> None:
    x = EventTensor.from_dense(torch.ones(2, 2, 4))
    x.values[3] = math.nan
    with pytest.raises(DataError, match="not finite"):
        check_batch(x, LABELS, 3, "train batch 0")


def test_logits_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(5, 2, 3\).*\(2, 3\)"):
        check_logits(torch.zeros(5, 2, 3), LABELS, 3)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    module = Classifier(Mean(), 3)
    with torch.no_grad():
        module.model.linear.weight.fill_(math.inf)
    with pytest.raises(RunError, match=r"loss is nan at train batch 4 of epoch 1"):
        module._step("train", (torch.zeros(5, 2, 4), LABELS), 4, module.train_accuracy, 0.0)


def test_batch_seeds_differ_and_follow_from_their_place() -> None:
    seeds = {batch_seed(s, e, b) for s in range(5) for e in range(5) for b in range(5)}
    assert len(seeds) == 125
    assert batch_seed(1, 2, 3) == batch_seed(1, 2, 3)


def test_events_are_copied_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    move = EventTensor.to
    monkeypatch.setattr(
        EventTensor, "to", lambda x, *where, non_blocking=False: asked.append(non_blocking) or move(x, *where)
    )
    events = EventTensor.from_dense(torch.ones(2, 2, 4))
    moved, labels = Classifier(Mean(), 3).transfer_batch_to_device((events, LABELS), torch.device("cpu"), 0)
    assert asked == [True]
    assert torch.equal(moved.to_dense(), events.to_dense())
    assert torch.equal(labels, LABELS)


def test_weights_of_classes_are_taken_as_torch_takes_them() -> None:
    """The loss is sum_c w_c (-log p_c), averaged over the batch; the accuracy counts the heaviest class."""
    module = Classifier(Mean(), 3)
    logged: dict[str, object] = {}
    module.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign, assignment]
    x, weights = torch.rand(5, 2, 4), torch.tensor([[0.25, 0.0, 0.75], [0.5, 0.5, 0.0]])
    module.eval()
    module.validation_step((x, weights.double()), 0)
    scores = module(x)
    torch.testing.assert_close(logged["valid_loss"], -(weights * scores.log_softmax(1)).sum(1).mean())
    right = (scores.argmax(1) == torch.tensor([2, 0])).float().mean()
    torch.testing.assert_close(module.valid_accuracy.compute(), right)


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (torch.tensor([[0.5, 0.5], [1.0, 0.0]]), ShapeError),
        (torch.tensor([[1, 0, 0], [0, 1, 0]]), ShapeError),
        (torch.tensor([[0.5, 0.6, 0.0], [1.0, 0.0, 0.0]]), DataError),
        (torch.tensor([[1.5, -0.5, 0.0], [1.0, 0.0, 0.0]]), DataError),
        (torch.tensor([[math.nan, 0.5, 0.5], [1.0, 0.0, 0.0]]), DataError),
    ],
)
def test_weights_that_are_none_are_refused(labels: torch.Tensor, error: type[Exception]) -> None:
    with pytest.raises(error, match="batch 1"):
        check_batch(torch.ones(5, 2, 4), labels, 3, "batch 1")
