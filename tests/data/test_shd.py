"""The SHD layout: files written with h5py, read back exactly or refused by name."""

from __future__ import annotations

import gc
import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from spikenet.data import SHD, SSC, read_spikes
from spikenet.data.spoken import JoinedSpikes, StoredSpikes
from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events.files.shd import StoredSpikeFile


def half_in_microseconds(value):
    """A half float's microseconds, by Python's own arithmetic."""
    (exact,) = struct.unpack("<e", struct.pack("<e", value))
    return round(exact * 1e6)


def test_times_channels_and_labels(write_spikes):
    times = [np.array([0.0468, 0.1973, 0.9023], np.float16), np.array([0.5], np.float16)]
    units = [np.array([0, 4, 699], np.uint16), np.array([5], np.uint16)]
    train = write_spikes(count=20, times=times * 10, units=units * 10)
    module = SHD(train=train, test=train)
    stream, label = module.raw("test")[2]
    assert stream.t.tolist() == [half_in_microseconds(time) for time in (0.0468, 0.1973, 0.9023)]
    assert stream.x.tolist() == [0, 0, 139]
    assert (label, stream.sensor.shape) == (2, (140,))
    assert SHD(train=train, test=train, pool=1).raw("test")[2][0].x.tolist() == [0, 4, 699]
    assert SHD(train=train, test=train, pool=3).feature_shape == (234,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wider_times(write_spikes, dtype):
    times = [np.array([0.123457, 0.5], dtype)] * 20
    stream, _ = SHD(train=(path := write_spikes(times=times, units=[np.array([1, 2])] * 20)), test=path).raw("test")[0]
    assert stream.t.tolist() == [123457, 500_000]


def test_name_and_classes_come_from_the_file(write_spikes):
    module = SHD(train=write_spikes("my_words_train.h5.gz"), test=write_spikes("my_words_valid.h5", count=12))
    assert module.name == "my_words"
    assert module.classes == ["null", "eins", "one", "two"]
    assert module.sizes == {"train": 18, "val": 2, "test": 12}


def test_gzip_opens_as_it_is(write_spikes):
    plain, packed = read_spikes(write_spikes("a.h5")), read_spikes(write_spikes("b.h5.gz"))
    for field in ("times", "units", "starts", "labels", "speakers"):
        assert np.array_equal(getattr(plain, field), getattr(packed, field))


def test_without_names_and_speakers(write_spikes):
    content = read_spikes(write_spikes(keys=None, speaker=None))
    assert content.classes == ("0", "1", "2", "3")
    assert content.speakers is None


def test_validation_by_speaker(write_spikes):
    train, test = write_spikes("a_train.h5"), write_spikes("a_test.h5", count=8)
    module = SHD(train=train, test=test, val_speakers=[1])
    speakers = read_spikes(train).speakers
    assert module.sizes == {"train": int((speakers != 1).sum()), "val": int((speakers == 1).sum()), "test": 8}
    for wrong in ([], [9], [0, 1, 2]):
        with pytest.raises(ArgumentError, match=r"some, not all, of \[0, 1, 2\]"):
            SHD(train=train, test=test, val_speakers=wrong).setup()
    nameless = write_spikes("b_train.h5", speaker=None)
    with pytest.raises(DataError, match="names no speakers"):
        SHD(train=nameless, test=test, val_speakers=[1]).setup()


def test_official_files_under_a_root(write_spikes, tmp_path):
    write_spikes("ssc_train.h5.gz", count=20)
    write_spikes("ssc_valid.h5", count=8)
    write_spikes("ssc_test.h5", count=12)
    module = SSC(tmp_path)
    assert (module.name, module.sizes) == ("ssc", {"train": 20, "val": 8, "test": 12})
    write_spikes("shd_train.h5", count=40)
    write_spikes("shd_test.h5.gz", count=16)
    module = SHD(tmp_path)
    assert (module.name, module.sizes) == ("shd", {"train": 36, "val": 4, "test": 16})


def test_recordings_left_in_their_file_are_those_in_memory(write_spikes):
    path = write_spikes("a.h5")
    stored, joined = StoredSpikes(StoredSpikeFile(path), 5), JoinedSpikes(read_spikes(path), 700, 5)
    assert (stored.classes, stored.sensor) == (joined.classes, joined.sensor)
    assert np.array_equal(stored.speakers, joined.speakers)
    for (one, label), (two, same) in zip(pickle.loads(pickle.dumps(stored)), joined, strict=True):
        assert label == same
        assert one.t.tolist() == two.t.tolist()
        assert one.x.tolist() == two.x.tolist()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks Linux which files are open")
def test_a_stored_file_is_opened_once_and_closed_with_its_reader(write_spikes, monkeypatch):
    path, opened = write_spikes("once.h5"), []
    plain = os.open
    monkeypatch.setattr(os, "open", lambda file, *rest: opened.append(file) or plain(file, *rest))
    stored = StoredSpikeFile(path)
    stored.read(0)
    stored.read(3)
    assert opened.count(path) == 1
    assert _open_files().count(str(path)) == 1
    del stored
    assert str(path) not in _open_files()
    with pytest.raises(FormatError, match="want one length"):
        StoredSpikeFile(odd := write_spikes("odd.h5", labels=np.arange(7)))
    gc.collect()
    assert str(odd) not in _open_files()


def _open_files():
    return [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]


def test_broken_recordings_left_in_their_file(tmp_path, write_spikes):
    late = write_spikes("late.h5", times=[np.array([np.inf])] * 20, units=[np.array([1], np.uint16)] * 20)
    with pytest.raises(FormatError, match=r"late.h5 at offset 3: a time wants seconds .* inf in recording 3"):
        StoredSpikeFile(late).read(3)
    high = write_spikes("high.h5", times=[np.array([0.5])] * 20, units=[np.array([700], np.uint16)] * 20)
    with pytest.raises(FormatError, match="a unit wants 0 to 699, received 700 in recording 0"):
        StoredSpikeFile(high).read(0)
    with pytest.raises(FormatError, match=r"lacks the data set spikes/times .* it holds \['extra', 'labels'\]"):
        StoredSpikeFile(write_spikes("none.h5", times=None, units=None))
    with pytest.raises(FormatError, match="want one length"):
        StoredSpikeFile(write_spikes("odd.h5", labels=np.arange(7)))
    with pytest.raises(DataError, match="is no file"):
        StoredSpikeFile(tmp_path / "gone.h5")
    cut = tmp_path / "cut.h5"
    cut.write_bytes(high.read_bytes()[:-300])
    with pytest.raises(FormatError, match="bytes are announced and"):
        StoredSpikeFile(cut)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_open_the_file_for_themselves(write_spikes):
    files = {"train": write_spikes("a_train.h5"), "test": write_spikes("a_test.h5", count=8)}
    alone, helped = (list(SSC(**files, workers=w, batch_size=5).train_dataloader()) for w in (0, 2))
    for (events, labels), (same, equal) in zip(alone, helped, strict=True):
        assert np.array_equal(events.to_dense(), same.to_dense())
        assert labels.tolist() == equal.tolist()


def test_a_validation_file_of_ones_own(write_spikes):
    files = {part: write_spikes(f"{part}.h5", count=count) for part, count in (("train", 20), ("val", 9), ("test", 7))}
    assert SHD(**files).sizes == {"train": 20, "val": 9, "test": 7}


def test_files_that_are_not_named_or_not_there(tmp_path, write_spikes):
    with pytest.raises(DataError, match=r"received neither; .* name the files \(--data.train, --data.test\)"):
        SHD().setup()
    with pytest.raises(DataError, match=r"received \['train'\]"):
        SHD(train=tmp_path / "a").setup()
    with pytest.raises(DataError, match=r"a\.h5 is no file"):
        SHD(train=tmp_path / "a.h5", test=tmp_path / "b.h5").setup()
    with pytest.raises(DataError, match=r"no SHD recordings under .*zenkelab"):
        SHD(tmp_path).setup()
    with pytest.raises(ArgumentError, match="exclude each other"):
        SHD(tmp_path, train=tmp_path)
    with pytest.raises(ArgumentError, match="pool 1 to 700"):
        SHD(tmp_path, pool=0)


def test_files_that_do_not_belong_together(write_spikes):
    train = write_spikes("a.h5")
    other = write_spikes("b.h5", keys=np.array([b"a", b"b", b"c", b"d"]))
    with pytest.raises(FormatError, match=r"b.h5: classes \['a', 'b', 'c', 'd'\] differ"):
        SHD(train=train, test=other).setup()


def bad_times(value):
    times = [np.full(3, 0.5, np.float32) for _ in range(20)]
    times[7][1] = value
    return {"times": times, "units": [np.arange(3)] * 20}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.arange(20) % 5}, "at offset 4: label 4 of recording 4: there are 4 classes"),
        ({"labels": np.arange(20) % 4 - 1}, "at offset 0: label -1"),
        ({"labels": np.zeros(20)}, "labels wants integers"),
        ({"labels": np.zeros(19, int)}, "want one length"),
        ({"labels": np.zeros((20, 1), int)}, "want one length"),
        ({"speaker": np.zeros(3, int)}, "want one length"),
        (bad_times(np.nan), "at offset 7: a time wants seconds .* nan in recording 7"),
        (bad_times(np.inf), "a time wants seconds"),
        (bad_times(-0.1), "a time wants seconds"),
        (bad_times(1e9), "a time wants seconds"),
        ({"units": [np.array([700])] * 20, "times": [np.array([0.5])] * 20}, "a unit wants 0 to 699, received 700"),
        ({"units": [np.array([-1])] * 20, "times": [np.array([0.5])] * 20}, "a unit wants 0 to 699, received -1"),
        ({"units": [np.arange(3)] * 20, "times": [np.ones(2)] * 20}, "recording 0 has 2 times and 3 units"),
        (
            {"times": None},
            r"lacks the data set spikes/times .* it holds \['extra', 'labels', 'spikes'\]",
        ),
        ({"times": np.ones((20, 3))}, "spikes/times wants one dimension"),
        ({"times": np.ones(20)}, "spikes/times wants arrays of floats"),
        ({"times": [np.arange(3)] * 20}, "spikes/times wants arrays of floats"),
        ({"units": [np.ones(3)] * 20}, "spikes/units wants arrays of integers"),
    ],
)
def test_broken_content_is_refused_by_name(write_spikes, changes, message):
    with pytest.raises(FormatError, match=message):
        read_spikes(write_spikes(**changes))


@pytest.mark.parametrize("name", ["a.h5", "a.h5.gz"])
def test_truncated_files(write_spikes, tmp_path, name):
    content = write_spikes(name).read_bytes()
    path = tmp_path / f"cut_{name}"
    for size in [*range(0, len(content), 101), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(FormatError, match=r"not a readable (HDF5|gzip) file|HDF5: .*announced"):
            read_spikes(path)


def test_other_files(tmp_path):
    text, packed = tmp_path / "a.h5", tmp_path / "b.h5.gz"
    text.write_text("no HDF5 at all")
    packed.write_bytes(gzip.compress(b"no HDF5 either"))
    for path in (text, packed):
        with pytest.raises(FormatError, match="not a readable HDF5 file"):
            read_spikes(path)


def test_real_speech(shared):
    module = SHD(train=shared("data/fsdd_spikes_train.h5.gz"), test=shared("data/fsdd_spikes_valid.h5.gz"))
    assert module.name == "fsdd_spikes"
    assert module.classes == ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert module.sizes == {"train": 2160, "val": 240, "test": 300}
    events, labels = next(iter(module.val_dataloader()))
    assert events.shape == (100, 64, 140)
    assert events.values.sum() == sum(len(module.raw("val")[number][0]) for number in range(64))
    assert labels.tolist() == module.raw("val").labels[:64].tolist()
