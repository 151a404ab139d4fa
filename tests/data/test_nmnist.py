"""N-MNIST: archives and folders, parts and splits, broken files."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from spikenet.data import NMNIST
from spikenet.data.contents import FolderContents, ZipContents
from spikenet.data.nmnist import BinFiles
from spikenet.errors import ArgumentError, DataError, FormatError
from spikenet.events import bin_by_time
from spikenet.events.binning import TimeGrid


def in_folders(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def in_archive(root, part, files):
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / f"{part}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{part}/", "")
        archive.writestr("__MACOSX/Train/3/._00003.bin", "not a recording")
        for name, content in files.items():
            archive.writestr(name, content)
    return root


def content_of(module):
    return {
        part: [(label, stream.t.tolist(), stream.address().tolist()) for stream, label in module.raw(part)]
        for part in ("train", "val", "test")
    }


def test_archives_and_folders_are_one(tmp_path, nmnist_files):
    files = nmnist_files("Train", 60)
    backwards = dict(reversed(files.items()))
    folders = NMNIST(in_folders(tmp_path / "folders", files))
    archive = NMNIST(in_archive(tmp_path / "archive", "Train", backwards))
    assert content_of(folders) == content_of(archive)
    assert folders.sizes == {"train": 43, "val": 5, "test": 12}
    assert (folders.name, folders.classes, folders.feature_shape) == (
        "N-MNIST, own test part of 20%",
        list("0123456789"),
        (2, 34, 34),
    )


def test_the_test_part_serves_where_it_is_there(tmp_path, nmnist_files):
    root = in_archive(tmp_path, "Train", nmnist_files("Train", 50))
    in_folders(root, nmnist_files("Test", 20, first=100))
    module = NMNIST(root)
    assert module.name == "N-MNIST"
    assert module.sizes == {"train": 45, "val": 5, "test": 20}
    assert [label for _, label in module.raw("test")] == [number % 10 for number in range(100, 120)]


def test_the_split_is_stratified_and_does_not_depend_on_the_seed(tmp_path, nmnist_files):
    root = in_folders(tmp_path, nmnist_files("Train", 100))
    one, two = NMNIST(root, seed=1), NMNIST(root, seed=2)
    assert content_of(one) == content_of(two)
    assert np.bincount(one.raw("test").labels).tolist() == [2] * 10
    assert np.bincount(one.raw("val").labels).max() == 1


def test_events_and_labels_are_those_of_the_files(tmp_path, nmnist_files, record):
    files = nmnist_files("Train", 40) | {"Train/7/00099.bin": record(77, 5, 6, 1)}
    module = NMNIST(in_archive(tmp_path, "Train", files))
    found = [(label, len(stream)) for part in ("train", "val", "test") for stream, label in module.raw(part)]
    expected = [(int(name.split("/")[1]), len(content) // 5) for name, content in files.items()]
    assert sorted(found) == sorted(expected)


def test_batches_are_the_binned_recordings(tmp_path, nmnist_files, record):
    """Markers and steps back in time take another way to the same counts."""
    odd = record(900, 1, 2, 1) + record(0, 0, 240, 0) + record(10, 3, 4, 0)
    back = record(90_000, 5, 6, 1) + record(50, 7, 8, 0) + record(50, 7, 8, 0)
    files = nmnist_files("Train", 40) | {"Train/1/00098.bin": odd, "Train/1/00099.bin": back}
    module = NMNIST(in_folders(tmp_path, files), batch_size=100)
    for part, loader in (("val", module.val_dataloader()), ("test", module.test_dataloader())):
        (events, labels), raw = next(iter(loader)), list(module.raw(part))
        assert torch.equal(events.to_dense(), bin_by_time([stream for stream, _ in raw], 20_000, 16).to_dense())
        assert labels.tolist() == [label for _, label in raw]
    special = BinFiles(FolderContents(tmp_path, ["Train/1/00098.bin", "Train/1/00099.bin"]))
    marked, stepped = (special.batch(np.array([k]), TimeGrid(1000, 100)) for k in range(2))
    assert (marked.indptr.diff().nonzero().flatten().tolist(), marked.values.tolist()) == ([0, 8], [1, 1])
    assert (stepped.indptr.diff().nonzero().flatten().tolist(), stepped.values.tolist()) == ([0, 90], [2, 1])


def test_nothing_there(tmp_path):
    with pytest.raises(
        DataError, match=r"no N-MNIST recordings under .* expected there: Train.zip .* Orchard.*garrickorchard"
    ):
        NMNIST(tmp_path).setup()
    with pytest.raises(DataError, match=r"wants a root folder \(--data.root\)"):
        NMNIST().setup()


def test_impossible_shares(tmp_path):
    with pytest.raises(ArgumentError, match="val_fraction wants a share"):
        NMNIST(tmp_path, val_fraction=1.0)


def test_a_broken_recording_is_named(tmp_path, nmnist_files):
    files = nmnist_files("Train", 30) | {"Train/4/00099.bin": b"\x01\x02\x03"}
    for module in (NMNIST(in_folders(tmp_path / "a", files)), NMNIST(in_archive(tmp_path / "b", "Train", files))):
        with pytest.raises(FormatError, match=r"Train/4/00099.bin at offset 0: .* 3 are left"):
            content_of(module)


def test_a_truncated_archive(tmp_path, nmnist_files):
    content = (in_archive(tmp_path, "Train", nmnist_files("Train", 12)) / "Train.zip").read_bytes()
    for size in range(0, len(content), 31):
        (tmp_path / "Train.zip").write_bytes(content[:size])
        with pytest.raises(FormatError, match=r"Train.zip: not a readable zip archive"):
            NMNIST(tmp_path).setup()


def test_a_damaged_archive_is_refused_or_read_as_it_was(tmp_path, nmnist_files):
    """Every byte of the members is covered by their checksum; names and dates are not."""
    content = (in_archive(tmp_path, "Train", nmnist_files("Train", 12)) / "Train.zip").read_bytes()
    whole = [events for rows in content_of(NMNIST(tmp_path)).values() for _, *events in rows]
    refused = 0
    for place in range(0, len(content), 13):
        damaged = bytearray(content)
        damaged[place] ^= 0x5A
        (tmp_path / "Train.zip").write_bytes(damaged)
        try:
            found = content_of(NMNIST(tmp_path))
        except (DataError, ArgumentError):
            refused += 1
        else:
            assert all(events in whole for rows in found.values() for _, *events in rows)
    assert refused > len(content) // 26


def test_an_archive_that_claims_too_much(tmp_path, nmnist_files):
    root = in_archive(tmp_path, "Train", nmnist_files("Train", 12) | {"Train/0/00050.bin": bytes((1 << 24) + 5)})
    with pytest.raises(FormatError, match=r"00050\.bin at offset \d+: claims 16777221 bytes"):
        content_of(NMNIST(root))


def test_members_that_are_stored_or_packed_in_another_way(tmp_path, record):
    events = record(7, 3, 4, 1) * 400
    for method, fine in ((zipfile.ZIP_STORED, True), (zipfile.ZIP_DEFLATED, True), (zipfile.ZIP_LZMA, False)):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
            archive.writestr("Train/0/00001.bin", events)
        contents = ZipContents(tmp_path / "a.zip", lambda name: name.endswith(".bin"))
        if fine:
            assert contents.read(0) == events
            room = np.zeros(len(events) + 9, np.uint8)
            assert contents.into(0, room[:7]) == len(events)
            assert room.tobytes() == events[:7] + bytes(len(events) + 2)
            assert contents.into(0, room) == len(events)
            assert room.tobytes() == events + bytes(9)
        else:
            with pytest.raises(FormatError, match=r"compression method 14; stored \(0\) and deflated \(8\)"):
                contents.read(0)


@pytest.mark.parametrize("size", [0, 5, 65536, 65541, 400_000, (1 << 24) + 1])
def test_files_of_any_size_in_a_folder(tmp_path, size):
    content = np.random.default_rng(0).bytes(size)
    (tmp_path / "a.bin").write_bytes(content)
    contents = FolderContents(tmp_path, ["a.bin"])
    if size > 1 << 24:
        with pytest.raises(FormatError, match=r"a\.bin.* has 16777217 bytes; a recording has 16777216 at most"):
            contents.read(0)
    else:
        assert contents.read(0) == content


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_read_the_archive_for_themselves(tmp_path, nmnist_files):
    root = in_archive(tmp_path, "Train", nmnist_files("Train", 60))
    batches = [[(e.to_dense(), y) for e, y in NMNIST(root, workers=w).train_dataloader()] for w in (0, 2)]
    for (alone, labels), (helped, same) in zip(*batches, strict=True):
        assert np.array_equal(alone, helped)
        assert np.array_equal(labels, same)


def test_the_thousand_real_recordings(shared):
    module = NMNIST(shared("data/NMNIST"))
    assert module.sizes == {"train": 720, "val": 80, "test": 200}
    for part in module.sizes:
        for stream, _ in module.raw(part):
            assert stream.t.diff().ge(0).all()
            assert 0 < len(stream) < 20_000
            assert stream.t.max() < 340_000
