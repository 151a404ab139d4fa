"""The published sets, each on a small tree of hand-made files in its layout: parts, labels, events, what is missing."""

from __future__ import annotations

import struct

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from spikenet.data import (
    ASLDVS,
    CIFAR10DVS,
    HARDVS,
    NTIDIGITS,
    SETS,
    DVSGesture,
    DVSLip,
    NCaltech101,
)
from spikenet.data.dvs_gesture import _rows
from spikenet.data.stored import StoredData
from spikenet.errors import DataError, FormatError

EVENTS = [(1000, 5, 6, 1), (1200, 7, 8, 0), (5000, 127, 3, 1)]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKENET_CACHE", str(tmp_path / "cache"))


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def rows(stream):
    return list(zip(*(column.tolist() for column in (stream.t, stream.x, stream.y, stream.p)), strict=True))


def everything(module):
    return {part: [(label, rows(stream)) for stream, label in module.raw(part)] for part in ("train", "val", "test")}


def labels(module, part):
    return module.raw(part).labels.tolist()


# Facts.


@pytest.mark.parametrize("name", sorted(SETS))
def test_every_set_says_what_it_is(name):
    about = SETS[name].about
    assert all(about.facts().values())
    assert about.url.startswith("https://")
    assert set(about.counts) in ({"train", "test"}, {"train", "val", "test"}, {"all"}, set())
    assert len(set(about.classes)) == len(about.classes)
    assert all(len(md5) == 32 and int(md5, 16) >= 0 for md5 in about.md5.values())
    if about.per_class and about.classes:
        assert sum(about.counts.values()) == about.per_class * len(about.classes)


@pytest.mark.parametrize("name", sorted(name for name, kind in SETS.items() if issubclass(kind, StoredData)))
def test_what_is_missing_is_said_with_layout_and_place(name, tmp_path):
    kind = SETS[name]
    with pytest.raises(DataError) as error:
        kind(tmp_path).setup()
    for part in (str(tmp_path), kind.about.layout, kind.about.url, kind.about.citation):
        assert part in str(error.value)
    with pytest.raises(DataError, match=r"--data\.root"):
        kind().setup()


def test_numbers_of_classes():
    """data_formats.md, section 13; ASL-DVS has no J and no Z."""
    sizes = {name: len(kind.about.classes) for name, kind in SETS.items()}
    assert sizes["dvs-lip"] == 100
    assert sizes["hardvs"] == 300
    assert sizes["asl-dvs"] == 24
    assert sizes["speech-commands"] == 35
    assert (sizes["shd"], sizes["dvs-gesture"], sizes["ntidigits"]) == (20, 11, 11)
    assert not {"j", "z"} & set(ASLDVS.about.classes)


# Camera sets, one file a recording.


def aedat2(events):
    """DVS128 addresses: column in bits 1 to 7, row in bits 8 to 14, polarity in bit 0; big-endian pairs."""
    pairs = [struct.pack(">Ii", x << 1 | y << 8 | p, t) for t, x, y, p in events]
    return b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n" + b"".join(pairs)


def test_n_caltech101(tmp_path, record):
    for name in ("BACKGROUND_Google", "accordion", "yin_yang"):
        for number in range(1, 11):
            put(tmp_path / f"Caltech101/{name}/image_{number:04d}.bin", record(number, 199, 170, 1))
    put(tmp_path / "Caltech101/.DS_Store", b"")
    module = NCaltech101(tmp_path)
    assert module.classes == ["BACKGROUND_Google", "accordion", "yin_yang"]
    assert module.sizes == {"train": 22, "val": 2, "test": 6}
    assert labels(module, "test") == [0, 0, 1, 1, 2, 2]
    assert "own test part of 20%" in module.name
    found = everything(module)
    assert found == everything(NCaltech101(tmp_path, seed=7))
    assert sorted(events[0][0] for part in found.values() for _, events in part) == sorted([*range(1, 11)] * 3)
    assert found["train"][0][1][0][1:] == (199, 170, 1)


def test_cifar10_dvs(tmp_path):
    for name in CIFAR10DVS.about.classes:
        for number in range(20):
            put(tmp_path / f"{name}/cifar10_{name}_{number}.aedat", aedat2(EVENTS))
    module = CIFAR10DVS(tmp_path)
    assert module.sizes == {"train": 162, "val": 18, "test": 20}
    assert np.bincount(labels(module, "test")).tolist() == [2] * 10
    stream, _ = module.raw("train")[0]
    assert rows(stream) == [(0, 5, 6, 1), (200, 7, 8, 0), (4000, 127, 3, 1)]


def test_asl_dvs(tmp_path):
    for letter in ASLDVS.about.classes:
        for number in range(5):
            t, x, y, p = (np.array(column)[:, None] for column in zip(*EVENTS, strict=True))
            (tmp_path / letter).mkdir(exist_ok=True)
            savemat(tmp_path / f"{letter}/{letter}_{number:04d}.mat", {"ts": t, "x": x, "y": y, "pol": p})
    module = ASLDVS(tmp_path)
    assert module.sizes == {"train": 86, "val": 10, "test": 24}
    assert labels(module, "test") == list(range(24))
    assert rows(module.raw("test")[5][0]) == [(t - 1000, x, y, p) for t, x, y, p in EVENTS]


def test_dvs_lip(tmp_path):
    events = np.array(EVENTS, [("t", "<i4"), ("x", "i1"), ("y", "i1"), ("p", "i1")])
    for part, count in (("train", 10), ("test", 2)):
        for word in ("accused", "young"):
            for number in range(count):
                path = tmp_path / f"DVS-Lip/{part}/{word}/{number}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, events)
    module = DVSLip(tmp_path)
    assert module.sizes == {"train": 18, "val": 2, "test": 4}
    assert labels(module, "test") == [0, 0, 99, 99]
    assert module.name == "DVS-Lip"
    assert rows(module.raw("val")[0][0])[-1] == (4000, 127, 3, 1)


def hardvs(root, lines):
    for part, names in lines.items():
        (root / f"{part}_label.txt").write_text("".join(f"{name} 0\n" for name in names))


def test_hardvs(tmp_path):
    t, x, y, p = (np.array(column) for column in zip(*EVENTS, strict=True))
    hardvs(tmp_path, {"train": ["action_001/a", "action_300/b"], "val": ["action_300/c"], "test": ["action_002/d"]})
    for name in ("action_001/a", "action_300/b", "action_300/c", "action_002/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.savez(tmp_path / f"{name}.npz", t=t, x=x, y=y, p=p)
    module = HARDVS(tmp_path)
    assert [labels(module, part) for part in ("train", "val", "test")] == [[0, 299], [299], [1]]
    assert rows(module.raw("test")[0][0])[0] == (0, 5, 6, 1)
    assert module.feature_shape == (2, 260, 346)


@pytest.mark.parametrize("line", ["action_301/a", "action_001", "../action_001/a", "action_001/../../etc/x"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, line):
    hardvs(tmp_path, {"train": ["action_001/a", line], "val": ["action_001/b"], "test": ["action_001/c"]})
    with pytest.raises(FormatError, match=r"train_label.txt at offset 1: line 2 wants action_"):
        HARDVS(tmp_path).setup()


def test_a_recording_that_is_gone_or_damaged_is_named(tmp_path):
    hardvs(tmp_path, {"train": ["action_001/a"], "val": ["action_001/b"], "test": ["action_001/c"]})
    put(tmp_path / "action_001/b.npz", b"no archive")
    module = HARDVS(tmp_path)
    with pytest.raises(DataError, match=r"action_001/a\.npz"):
        module.raw("train")[0]
    with pytest.raises(FormatError, match=r"action_001/b\.npz"):
        module.raw("val")[0]


# N-TIDIGITS18.


def test_ntidigits(tmp_path):
    spoken = {
        "train": ["man-ae-1", "man-ae-z", "man-ae-12z"] + [f"man-a{i}-o" for i in range(8)],
        "test": ["w-b-9", "w-b-11"],
    }
    with h5py.File(tmp_path / "n-tidigits.hdf5", "w") as file:
        for part, names in spoken.items():
            file[f"{part}_labels"] = np.array([name.encode() for name in names])
            for number, name in enumerate(names):
                file[f"{part}_addresses/{name}"] = np.array([number, 63], np.uint8)
                file[f"{part}_timestamps/{name}"] = np.array([0.25, 0.5 + number / 64])
    module = NTIDIGITS(tmp_path)
    assert module.sizes == {"train": 9, "val": 1, "test": 1}
    assert labels(module, "test") == [9]
    assert rows(module.raw("test")[0][0]) == [(250_000, 0, 0, 0), (500_000, 63, 0, 0)]
    found = sorted((label, rows(stream)[0][1]) for part in ("train", "val") for stream, label in module.raw(part))
    assert found == sorted([(1, 0), (10, 1), *((0, number) for number in range(3, 11))])


def test_another_hdf5_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "n-tidigits.hdf5", "w") as file:
        file["labels"] = [1]
    with pytest.raises(FormatError, match="train_labels"):
        NTIDIGITS(tmp_path).setup()


# DVS128 Gesture.


def aedat3(events):
    """Polarity events: bit 0 valid, bit 1 polarity, rows from bit 2, columns from bit 17; one packet."""
    packed = [struct.pack("<II", 1 | p << 1 | y << 2 | x << 17, t) for t, x, y, p in events]
    head = struct.pack("<hhiiiiii", 1, 0, 8, 4, 0, len(events), len(events), len(events))
    return b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + head + b"".join(packed)


def gestures(root, train=("user01_lab", "user22_led"), test=("user24_lab",)):
    """Trials with an event every millisecond and two overlapping windows."""
    root.mkdir(exist_ok=True)
    for part, trials in (("train", train), ("test", test)):
        (root / f"trials_to_{part}.txt").write_text("".join(f"{trial}.aedat\n" for trial in trials))
        for trial in trials:
            put(root / f"{trial}.aedat", aedat3([(1000 * k, k, 100, k % 2) for k in range(20)]))
            (root / f"{trial}_labels.csv").write_text(
                "class,startTime_usec,endTime_usec\n3,2000,5000\n11,4500,9000\n11,9000,9001\n"
            )
    return root


def test_dvs_gesture(tmp_path):
    module = DVSGesture(gestures(tmp_path))
    assert module.sizes == {"train": 3, "val": 3, "test": 3}
    assert labels(module, "val") == [2, 10, 10]
    assert module.classes[2] == "left hand wave"
    streams = [rows(stream) for stream, _ in module.raw("test")]
    assert streams[0] == [(0, 2, 100, 0), (1000, 3, 100, 1), (2000, 4, 100, 0)]
    assert [event[:2] for event in streams[1]] == [(500, 5), (1500, 6), (2500, 7), (3500, 8)]
    assert streams[2] == [(0, 9, 100, 1)]


def test_gestures_are_cut_once_and_kept(tmp_path):
    first = DVSGesture(gestures(tmp_path / "data"))
    first.prepare()
    before = everything(first)
    for trial in (tmp_path / "data").glob("*.aedat"):
        trial.unlink()
    again = DVSGesture(tmp_path / "data")
    assert everything(again) == before
    kept = sorted((tmp_path / "cache").rglob("*.events"))
    assert len(kept) == 9
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path not in kept]
    kept[0].write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="it is made anew"), pytest.raises(DataError, match=r"user01_lab\.aedat"):
        everything(DVSGesture(tmp_path / "data"))


@pytest.mark.parametrize("row", ["12,1,2", "0,1,2", "3,5,5", "3,5", "3,a,9", "3,-1,9"])
def test_rows_that_are_no_gestures_are_refused(tmp_path, row):
    path = tmp_path / "a_labels.csv"
    path.write_text(f"class,startTime_usec,endTime_usec\n1,0,5\n{row}\n")
    with pytest.raises(FormatError, match=r"a_labels.csv at offset 3: line 3 wants"):
        _rows(path)


def test_a_real_label_file(shared):
    """Its rows are in the order of time, not of classes."""
    found = _rows(shared("samples/dvs_gesture/user01_natural_labels.csv"))
    lines = shared("samples/dvs_gesture/user01_natural_labels.csv").read_text().split()[1:]
    assert [",".join(map(str, row)) for row in found] == lines
    assert sorted({label for label, _, _ in found}) == list(range(1, 12))


def test_the_published_trials(tmp_path, shared):
    """98 trials of users 1 to 23 and 24 of users 24 to 29; validation is users 21 to 23, and nobody is in two parts."""
    trials = {
        part: [
            line.removesuffix(".aedat")
            for line in shared(f"samples/dvs_gesture/trials_to_{part}.txt").read_text().split()
        ]
        for part in ("train", "test")
    }
    assert {part: len(names) for part, names in trials.items()} == {"train": 98, "test": 24}
    module = DVSGesture(gestures(tmp_path, **trials))
    names = {
        part: {module.raw(part).recordings.source.trials[i] for i in module.raw(part).chosen}
        for part in ("train", "val")
    }
    users = {part: {int(name[4:6]) for name in found} for part, found in names.items()}
    assert users == {"train": set(range(1, 21)), "val": {21, 22, 23}}
    assert names["train"] | names["val"] == set(trials["train"])
    assert module.sizes["test"] == 3 * 24
