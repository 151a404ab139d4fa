"""Order and augmentation follow from seed, epoch and index, and from nothing else."""

from __future__ import annotations

import lightning
import numpy as np
import pytest
import torch
from torch import nn

from spikenet.data import EpochSampler, EventData, EventDataModule, EventDataset, Recordings
from spikenet.data.recordings import Selection
from spikenet.errors import ArgumentError, UnknownNameError
from spikenet.events import EventStream, EventTensor, Sensor

SENSOR = Sensor(6, 5, 2)
CHANGES = [{"RandomShift": 1}, {"TimeJitter": 30.0}, {"EventDrop": 0.2}]


class Toy(Recordings):
    """Recordings that differ in length; the label tells the number."""

    def __init__(self, count):
        self.labels = np.arange(count)

    def stream(self, index):
        generator = np.random.default_rng(index)
        size = 20 + index
        x, y, p = (generator.integers(0, limit, size) for limit in SENSOR)
        return EventStream.from_numpy(np.sort(generator.integers(0, 1000 + 100 * index, size)), x, y, p, sensor=SENSOR)


class ToyModule(EventDataModule):
    reads = 0

    def __init__(self, batch_size=4, dt_us=100, steps=10, augment=CHANGES, **options):
        super().__init__(batch_size=batch_size, dt_us=dt_us, steps=steps, augment=augment, **options)

    def read(self):
        self.reads += 1
        whole, numbers = Toy(23), np.arange(23)
        cuts = (Selection(whole, numbers[part]) for part in (slice(0, 14), slice(14, 19), slice(19, 23)))
        return EventData("toy", tuple(map(str, numbers)), SENSOR, *cuts)


def epoch_of(module, epoch, loader=None):
    loader = loader or module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [(events.to_dense(), labels) for events, labels in loader]


def equal(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, y) and torch.equal(i, j) for (x, i), (y, j) in zip(a, b, strict=True)
    )


def test_a_batch():
    events, labels = next(iter(ToyModule().train_dataloader()))
    assert isinstance(events, EventTensor)
    assert events.shape == (10, 4, 2, 5, 6)
    assert events.lengths.tolist() == [10] * 4
    assert labels.dtype == torch.int64


def test_own_lengths():
    module = ToyModule(steps=None)
    events, _ = next(iter(module.test_dataloader()))
    expected = [int(stream.t.max()) // 100 + 1 for stream, _ in module.raw("test")]
    assert events.lengths.tolist() == expected
    assert max(expected) == events.T


def test_facts():
    module = ToyModule()
    assert (module.name, module.classes[:2], module.sensor, module.feature_shape) == (
        "toy",
        ["0", "1"],
        SENSOR,
        (2, 5, 6),
    )
    assert module.sizes == {"train": 14, "val": 5, "test": 4}
    module.setup("fit")
    assert module.reads == 1
    with pytest.raises(UnknownNameError, match=r"unknown split 'trian'\. Did you mean 'train'"):
        module.raw("trian")


def test_every_epoch_has_every_recording_in_its_own_order():
    module = ToyModule()
    orders = [torch.cat([labels for _, labels in epoch_of(module, epoch)]).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(14)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    other = torch.cat([labels for _, labels in epoch_of(ToyModule(seed=1), 0)]).tolist()
    assert other != orders[0]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_change_nothing():
    """Two epochs through persistent workers, whose epoch is that of the sampler in the main process."""
    alone, helped = ToyModule(), ToyModule(workers=2)
    loader = helped.train_dataloader()
    for epoch in (0, 3):
        assert equal(epoch_of(alone, epoch), epoch_of(helped, epoch, loader))
    plain, fetched = ([labels.tolist() for _, labels in m.val_dataloader()] for m in (alone, helped))
    assert plain == fetched == [[14, 15, 16, 17], [18]]


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees():
    module = ToyModule()
    loader = module.train_dataloader()
    uninterrupted = [epoch_of(module, epoch, loader) for epoch in range(4)]
    assert equal(epoch_of(ToyModule(), 3), uninterrupted[3])
    assert not equal(uninterrupted[2], uninterrupted[3])


def test_augmentation_follows_from_seed_epoch_and_index():
    augmentations = ToyModule().augmentations
    assert len(augmentations) == 3
    recordings = Toy(3)

    def times(seed, key):
        return EventDataset(recordings, augmentations, seed)[key][0].t.tolist()

    assert times(0, (2, 1)) == times(0, (2, 1))
    assert len({tuple(times(*key)) for key in ((0, (2, 1)), (0, (3, 1)), (1, (2, 1)))}) == 3
    assert times(0, 1) == times(0, (0, 1))


def test_only_training_is_augmented():
    module = ToyModule(batch_size=5)
    events, _ = next(iter(module.val_dataloader()))
    raw = [stream.slice(0, 1000) for stream, _ in module.raw("val")]
    assert events.to_dense().sum((0, 2, 3, 4)).tolist() == [len(stream) for stream in raw]


def test_loaders_leave_torchs_generator_alone():
    before = torch.get_rng_state()
    module = ToyModule()
    epoch_of(module, 0)
    list(module.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


class Listener(lightning.LightningModule):
    """Learns nothing, but remembers which recordings came in each epoch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.heard = {}

    def training_step(self, batch, _):
        events, labels = batch
        self.heard.setdefault(self.current_epoch, []).extend(labels.tolist())
        return self.weight.sum() * events.values.sum()

    def validation_step(self, batch, _):
        assert batch[0].batch == len(batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*smaller than the logging interval")
def test_lightning_tells_the_sampler_its_epoch():
    listener = Listener()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(listener, datamodule=ToyModule(seed=5))
    for epoch, heard in listener.heard.items():
        sampler = EpochSampler(14, 5)
        sampler.set_epoch(epoch)
        assert heard == [index for _, index in sampler]
    assert len(listener.heard) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size wants 1 or more, received 0"),
        ({"workers": -1}, "workers wants 0"),
        ({"seed": -1}, "seed wants 0"),
        ({"dt_us": 0}, "dt_us wants 1"),
        ({"steps": 0}, "steps wants 1"),
        ({"augment": [{"RandomShift": -1}]}, "0 or more"),
        ({"augment": [{"EventDrop": 1.2}]}, "probability: 0 to 1"),
    ],
)
def test_impossible_options_are_refused(values, message):
    with pytest.raises(ArgumentError, match=message):
        ToyModule(**values)
