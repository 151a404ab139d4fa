"""Augmentations asked for by name: in training batches only, the same whatever the workers, against what is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from spikenet.data.named import AUGMENTATIONS, MIXES, augmentations, mixes
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.events import CutMix, EventDrop, EventMix, EventStream, FlipX, OneOf, RandomShift, ScaleTime, TimeDrop
from spikenet.training.processes import shared
from tests.data.test_loaders import ToyModule, epoch_of, equal


def plain(part, **options):
    return next(iter(getattr(ToyModule(batch_size=14, augment=[], **options), f"{part}_dataloader")()))


def test_names_become_what_they_name():
    given = [{"RandomShift": 2}, {"ScaleTime": {"low": 0.5, "high": 2}}, {"OneOf": [{"EventDrop": 0.1}, TimeDrop(0.2)]}]
    assert augmentations(given) == (RandomShift(2), ScaleTime(0.5, 2), OneOf((EventDrop(0.1), TimeDrop(0.2))))
    assert mixes(["CutMix", {"EventMix": 2}, {"CutMix": None}]) == (CutMix(), EventMix(2), CutMix())
    own = [lambda stream, generator: stream]
    assert augmentations(own) == tuple(own)
    assert augmentations(None) == mixes([]) == ()
    assert (augmentations({"FlipX": 1}), augmentations(FlipX(1)), mixes("CutMix")) == (
        (FlipX(1),),
        (FlipX(1),),
        (CutMix(),),
    )


def test_two_flips_are_none():
    flipped, _ = next(iter(ToyModule(batch_size=14, augment=[{"FlipX": 1.0}]).train_dataloader()))
    twice, _ = next(iter(ToyModule(batch_size=14, augment=[{"FlipX": 1}, FlipX(1.0)]).train_dataloader()))
    original, _ = plain("train")
    assert torch.equal(flipped.to_dense(), original.to_dense().flip(-1))
    assert torch.equal(twice.to_dense(), original.to_dense())


def test_a_shift_moves_events_written_by_hand():
    """A shift is a whole number of pixels for a whole recording: some move of the original by at most two."""
    moved, labels = next(iter(ToyModule(batch_size=14, augment=[{"RandomShift": 2}]).train_dataloader()))
    original, same = plain("train")
    assert torch.equal(labels, same)
    shifts = []
    for b in range(14):
        before, after = original.to_dense()[:, b], moved.to_dense()[:, b]
        found = [(r, d) for r in range(-2, 3) for d in range(-2, 3) if torch.equal(_moved(before, r, d), after)]
        assert len(found) == 1
        shifts += found
    assert len(set(shifts)) > 5


def _moved(dense, right, down):
    padded = torch.nn.functional.pad(dense, (2, 2, 2, 2))
    return padded[..., 2 - down : 2 - down + dense.shape[-2], 2 - right : 2 - right + dense.shape[-1]]


def test_a_drop_is_binomial():
    kept, _ = next(iter(ToyModule(batch_size=14, augment=[{"EventDrop": 0.3}]).train_dataloader()))
    original, _ = plain("train")
    assert binomtest(int(kept.values.sum()), int(original.values.sum()), 0.7).pvalue > 1e-3


@pytest.mark.parametrize("mix", [["CutMix"], [{"EventMix": 2}], ["CutMix", "EventMix"]])
def test_only_training_batches_are_mixed(mix):
    module = ToyModule(mix=mix)
    for loader, split in ((module.val_dataloader(), "val"), (module.test_dataloader(), "test")):
        (events, labels), (raw, classes) = next(iter(loader)), next(iter(getattr(ToyModule(), f"{split}_dataloader")()))
        assert torch.equal(events.to_dense(), raw.to_dense())
        assert torch.equal(labels, classes)
    mixed, whole = epoch_of(module, 2), epoch_of(ToyModule(), 2)
    assert any(not torch.equal(a, b) for (a, _), (b, _) in zip(mixed, whole, strict=True))
    for (events, weights), (before, labels) in zip(mixed, whole, strict=True):
        assert weights.shape == (len(labels), 23)
        torch.testing.assert_close(weights.sum(1), torch.ones(len(labels)))
        assert not weights[:, [c for c in range(23) if c not in labels]].any(), "partners come from the batch"
        assert (events <= before.amax(1, keepdim=True)).all()


def test_cutmix_weighs_what_it_takes():
    """Every address of recording n holds n + 1 events: the mixed batch itself tells who fills how much of it."""
    module = FullModule(batch_size=6, mix=["CutMix"], dt_us=100, steps=1)
    (dense, weights), *_ = epoch_of(module, 1)
    for b in range(6):
        shares = torch.stack([(dense[0, b] == number + 1).float().mean() for number in range(23)])
        torch.testing.assert_close(weights[b], shares)
    assert ((weights > 0).sum(1) == 2).any()


class FullModule(ToyModule):
    """Recordings that fill the sensor, with as many events an address as their number tells."""

    def __init__(self, **options):
        super().__init__(augment=[fill], **options)


def fill(stream, _generator):
    number = len(stream) - 20
    size = np.prod(stream.sensor)
    p, y, x = (column.ravel() for column in np.indices(stream.sensor.shape))
    columns = (np.tile(column, number + 1) for column in (x, y, p))
    return EventStream.from_numpy(np.zeros(size * (number + 1), int), *columns, sensor=stream.sensor)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_and_resumes_mix_alike():
    options = {"mix": ["CutMix", {"EventMix": 2}]}
    helped = ToyModule(workers=2, **options).train_dataloader()
    runs = [[epoch_of(ToyModule(**options), epoch) for epoch in range(3)] for _ in range(2)]
    assert all(equal(a, b) for a, b in zip(*runs, strict=True))
    assert equal(epoch_of(ToyModule(**options), 2, helped), runs[0][2])
    assert not torch.equal(runs[0][1][0][1], runs[0][2][0][1])
    assert not equal(epoch_of(ToyModule(seed=1, **options), 0), runs[0][0])


@pytest.mark.parametrize("processes", [2, 3])
def test_devices_share_what_one_would_mix(processes):
    """14 recordings in batches of 4: the last batch leaves the third process nothing."""
    options = {"mix": ["CutMix"], "steps": None}
    whole = ToyModule(**options).train_dataloader()
    parts = [shared(ToyModule(**options).train_dataloader(), rank, processes) for rank in range(processes)]
    for batch, (events, weights), *shares in zip(range(4), whole, *parts, strict=True):
        for rank, (own, labels) in enumerate(shares):
            entries = list(range(rank, events.batch, processes)) or [0]
            assert torch.equal(labels, weights[entries])
            assert torch.equal(own.lengths, events.lengths[entries])
            assert torch.equal(own.to_dense(), events.to_dense()[: own.T, entries])
            counted = parts[rank].batch_sampler.share(batch)
            assert counted == len(range(rank, events.batch, processes)) * processes / events.batch


@pytest.mark.parametrize(
    ("make", "given", "error", "message"),
    [
        (augmentations, ["RandomShfit"], UnknownNameError, r"augmentation 'RandomShfit'\. Did you mean 'RandomShift'"),
        (augmentations, [{"FlipX": {"probablity": 1}}], UnknownNameError, "of FlipX 'probablity'. Did you mean 'prob"),
        (augmentations, ["FlipX"], ArgumentError, r"FlipX wants probability, received {}; `FlipX: {probability: ...}`"),
        (augmentations, [{"ScaleTime": 0.5}], ArgumentError, "ScaleTime wants low, high, received 0.5"),
        (augmentations, [{"RandomShift": 1.5}], ArgumentError, "RandomShift wants a whole number for pixels, rec"),
        (augmentations, [{"RandomShift": True}], ArgumentError, "a whole number for pixels, received True"),
        (
            augmentations,
            [{"EventDrop": "much"}],
            ArgumentError,
            "EventDrop wants a number for probability, received 'm",
        ),
        (augmentations, [{"EventDrop": 2}], ArgumentError, "probability: 0 to 1"),
        (augmentations, ["CutMix"], ArgumentError, "CutMix belongs to the option `mix`, received it in `augment`"),
        (mixes, [{"FlipX": 1}], ArgumentError, "FlipX belongs to the option `augment`"),
        (mixes, ["CutMx"], UnknownNameError, "Did you mean 'CutMix'"),
        (mixes, [{"CutMix": 3}], UnknownNameError, "unknown argument of CutMix '3'"),
        (mixes, [{"EventMix": 0}], ArgumentError, "1 component or more"),
        (mixes, 3, ArgumentError, r"`mix` wants a list such as \[CutMix\].*received 3"),
        (augmentations, [3], ArgumentError, r"such as \[RandomShift: 1, FlipX: 0.5\].*received 3"),
        (augmentations, [FlipX], ArgumentError, "wants a list such as"),
        (augmentations, [{"FlipX": 1, "FlipY": 1}], ArgumentError, "wants a list such as"),
        (augmentations, [{"OneOf": ["FlipZ"]}], UnknownNameError, "unknown augmentation 'FlipZ'"),
    ],
)
def test_what_cannot_be_read_is_refused(make, given, error, message):
    with pytest.raises(error, match=message):
        make(given)


def test_every_augmentation_has_its_name():
    from spikenet import events

    assert all(getattr(events, name) is kind for name, kind in (AUGMENTATIONS | MIXES).items())
