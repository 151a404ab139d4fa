"""digits-dvs: the same events everywhere, a sound cache, a fixed split."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from spikenet.data import DigitsDVS, digits_dvs


@pytest.fixture(scope="module")
def made():
    return digits_dvs.generate()


@pytest.fixture
def cache(tmp_path, monkeypatch, made):
    """An empty cache, and the number of times that the events were made."""
    monkeypatch.setenv("SPIKENET_CACHE", str(tmp_path / "cache"))
    calls = []
    monkeypatch.setattr(digits_dvs, "generate", lambda: calls.append(1) or made)
    return calls


def test_the_events_are_the_published_ones(made):
    assert hashlib.sha256(made).hexdigest() == digits_dvs.EVENTS_SHA256


def test_made_once_then_cached(cache, tmp_path):
    for _ in range(2):
        assert DigitsDVS().sizes == {"train": 1077, "val": 360, "test": 360}
    assert len(cache) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:], lambda b: b[:7]])
def test_a_damaged_cache_is_made_anew(cache, tmp_path, damage):
    DigitsDVS().setup()
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="is damaged"):
        DigitsDVS().setup()
    assert len(cache) == 2
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_only_costs_time(cache, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert len(DigitsDVS().raw("train")) == 1077
    assert len(cache) == 1


def test_other_events_are_announced(cache, monkeypatch, made):
    monkeypatch.setattr(digits_dvs, "generate", lambda: made + bytes(5))
    with pytest.warns(UserWarning, match="differ from the published ones"):
        DigitsDVS().setup()


def test_split_is_stratified_and_complete(cache):
    module = DigitsDVS()
    target = load_digits().target
    counts = {part: np.bincount(module.raw(part).labels, minlength=10) for part in ("train", "val", "test")}
    assert np.array_equal(sum(counts.values()), np.bincount(target))
    assert np.abs(counts["test"] - np.bincount(target) * 360 / 1797).max() < 1
    chosen = np.concatenate([module.raw(part).chosen for part in counts])
    assert sorted(chosen) == list(range(1797))
    assert all(np.array_equal(module.raw(part).labels, target[module.raw(part).chosen]) for part in counts)


def test_the_split_never_moves(cache):
    """Published results rest on it."""
    numbers = {part: DigitsDVS(seed=9).raw(part).chosen.astype("<i8").tobytes() for part in ("train", "val", "test")}
    assert {part: hashlib.sha256(chosen).hexdigest()[:12] for part, chosen in numbers.items()} == SPLIT


SPLIT = {"train": "28267364d143", "val": "4cd7c966122a", "test": "b6733a331c2e"}


def test_recordings_are_what_a_camera_sees_on_a_closed_path(cache):
    """The digit returns to its start, so what went up has come down: ON and OFF balance at every pixel."""
    for stream, _ in [DigitsDVS().raw("val")[number] for number in range(0, 360, 30)]:
        assert stream.t.diff().ge(0).all()
        assert 0 < stream.t[0] < 20_000 < 280_000 < stream.t[-1] <= 300_000
        balance = torch.zeros(24, 24).index_put((stream.y.long(), stream.x.long()), 2.0 * stream.p - 1, accumulate=True)
        assert balance.abs().max() <= 3
        ink = torch.zeros(24, 24).index_put(
            (stream.y.long(), stream.x.long()), torch.ones(len(stream)), accumulate=True
        )
        assert ink[0].sum() + ink[-1].sum() + ink[:, 0].sum() + ink[:, -1].sum() < 0.1 * len(stream)


def test_labels_belong_to_their_events(cache):
    """Even the nearest mean picture tells most digits (validation part)."""
    module = DigitsDVS(batch_size=1077)
    (train, known), (val, asked) = (next(iter(load())) for load in (module.train_dataloader, module.val_dataloader))
    pictures, unseen = (events.to_dense().sum(0).flatten(1) for events in (train, val))
    means = torch.stack([pictures[known == digit].mean(0) for digit in range(10)])
    assert (torch.cdist(unseen, means).argmin(1) == asked).float().mean() > 0.85
