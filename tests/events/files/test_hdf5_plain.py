"""Data sets found without the library: as h5py reads them, in every form in which it writes them, and from damage."""

from __future__ import annotations

import struct
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikenet.errors import FormatError
from spikenet.events.files.hdf5 import Hdf5, readable
from spikenet.events.files.hdf5_plain import Plain
from tests.events.files.trial import apart, bounded

RAGGED = [np.arange(n, dtype=np.float32) / 8 for n in (0, 1, 7, 300, 0, 25)]
PLAIN = {
    "bytes": np.arange(40, dtype=np.uint8),
    "swapped": np.arange(-20, 20, dtype=">i2"),
    "long": np.arange(40, dtype=np.int64) << 40,
    "half": np.arange(40, dtype=np.float16) / 4,
    "double": np.arange(40) / 7,
    "scalar": np.array(5),
    "none": np.empty(0, np.int32),
    "grid": np.arange(12, dtype=np.int16).reshape(3, 4),
}
TEXTS = ["one", "zwei", "", "grüße"]
FORMS = {"whole": {}, "chunks": {"chunks": (3,)}, "packed": {"chunks": (3,), "compression": 4, "shuffle": True}}


def write(path: Path, libver: object = "earliest", form: str = "whole", userblock: int = 0) -> Path:
    options = FORMS[form]
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as file:
        for name, values in PLAIN.items():
            stored = options if values.ndim == 1 and len(values) else {}
            file.create_dataset(f"a/{name}", data=values, **stored)
        for name, dtype in (("ragged", np.float32), ("swapped ragged", ">u2")):
            ragged = file.create_dataset(f"b/c/{name}", (len(RAGGED),), h5py.vlen_dtype(np.dtype(dtype)), **options)
            for row, values in enumerate(RAGGED):
                ragged[row] = values.astype(dtype)
        file.create_dataset("texts", data=TEXTS, dtype=h5py.string_dtype(), **options)
        file["fixed"] = np.array([text.encode() for text in TEXTS])
        file["link"] = h5py.SoftLink("/texts")
    return path


def content(path: Path) -> dict[str, object]:
    with closing(Hdf5(path)) as file:
        found: dict[str, object] = {name: file.array(f"a/{name}", "iuf") for name in PLAIN}
        for name, kinds in (("ragged", "f"), ("swapped ragged", "iu")):
            found[name] = file.ragged(f"b/c/{name}", kinds, slice(None))
            found[f"two of {name}"] = file.ragged(f"b/c/{name}", kinds, slice(2, 4))
        return found | {name: file.strings(name) for name in ("texts", "fixed")}


def check(found: dict[str, object]) -> None:
    for name, values in PLAIN.items():
        assert np.array_equal(found[name], values)
        assert found[name].dtype == values.dtype.newbyteorder("=")
    for name in ("ragged", "swapped ragged"):
        dtype = np.float32 if name == "ragged" else np.uint16
        assert [part.tolist() for part in found[name]] == [part.astype(dtype).tolist() for part in RAGGED]
        assert [part.tolist() for part in found[f"two of {name}"]] == [p.tolist() for p in found[name][2:4]]
    assert found["texts"] == found["fixed"] == TEXTS


def is_plain(path: Path) -> bool:
    with closing(Hdf5(path)) as file:
        return isinstance(file._source, Plain) and file._by_library is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("userblock", [0, 1024])
@pytest.mark.parametrize("libver", ["earliest", ("v108", "v108"), "latest"])
def test_as_written_by_h5py(tmp_path, libver, form, userblock):
    path = write(tmp_path / "a.h5", libver, form, userblock)
    assert is_plain(path) == (libver == "earliest")
    check(content(path))


@pytest.mark.parametrize(
    "options", [{"compression": "lzf"}, {"fletcher32": True}, {"chunks": (2, 3)}, {"fillvalue": 7}]
)
def test_what_only_the_library_reads(tmp_path, options):
    values = np.arange(60, dtype=np.int32).reshape(6, 10)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if "fillvalue" in options:  # nothing is stored
            values = file.create_dataset("a", values.shape, values.dtype, **options)[:]
        else:
            file.create_dataset("a", data=values if "chunks" in options else values.ravel(), **options)
    with closing(Hdf5(tmp_path / "a.h5")) as file:
        assert np.array_equal(file.array("a", "i").ravel(), values.ravel())
        assert file._by_library is not None


def test_trees_of_many_levels(tmp_path):
    """Names and chunks that fill several levels of nodes."""
    names = [f"set {n}" for n in np.random.default_rng(0).permutation(3000)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in names:
            file[f"many/{name}"] = int(name.split()[1])
        file.create_dataset("chunks", data=np.arange(5001), chunks=(1,))
    with closing(Hdf5(tmp_path / "a.h5")) as file:
        assert [int(file.array(f"many/{name}", "i")) for name in names[:50]] == [int(n.split()[1]) for n in names[:50]]
        assert all(f"many/{name}" in file for name in names)
        assert "many/set 3000" not in file
        assert np.array_equal(file.array("chunks", "i"), np.arange(5001))
        assert file._by_library is None


def test_what_is_not_there(tmp_path):
    path = write(tmp_path / "a.h5")
    with closing(Hdf5(path)) as file:
        assert file.names() == {b"a", b"b", b"texts", b"fixed"}
        for name in ("c", "a/c", "texts/a", "b/c", "a", "link"):
            with pytest.raises(
                FormatError, match=rf"lacks the data set {name} .* it holds \['a', 'b', 'fixed', 'texts'\]"
            ):
                file.dataset(name)
        with pytest.raises(FormatError, match="wants floats, received int64"):
            file.array("a/long", "f")
        with pytest.raises(FormatError, match="wants floats, received texts"):
            file.array("texts", "f")
        with pytest.raises(FormatError, match="wants arrays of integers, received arrays of float32"):
            file.ragged("b/c/ragged", "iu", slice(None))
        with pytest.raises(FormatError, match="wants arrays of floats, received texts"):
            file.ragged("texts", "f", slice(None))
        with pytest.raises(FormatError, match="wants a list of names, received float64"):
            file.strings("a/double")


def test_a_tree_that_leads_back(tmp_path):
    """The first child of a chunk tree of two levels becomes the tree itself."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("chunks", data=np.arange(300), chunks=(1,))
    whole = bytearray((tmp_path / "a.h5").read_bytes())
    roots = [at for at in range(len(whole)) if whole[at : at + 5] == b"TREE\1" and whole[at + 5] > 0]
    assert roots
    for root in roots:
        struct.pack_into("<Q", whole, root + 24 + 24, root)
    (tmp_path / "a.h5").write_bytes(whole)
    with closing(Hdf5(tmp_path / "a.h5")) as file, pytest.raises(FormatError, match=r"leads back|out of its place"):
        file.array("chunks", "i")


@pytest.mark.parametrize("form", FORMS)
def test_damage(tmp_path, form):
    """Whatever is changed or cut off, the sets are read or refused; nothing is followed out of the file or for ever."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        ragged = file.create_dataset("b/ragged", (3,), h5py.vlen_dtype(np.float32), **FORMS[form])
        for row in range(3):
            ragged[row] = np.ones(2)
        file.create_dataset("numbers", data=np.arange(9), **FORMS[form])
        file["texts"] = TEXTS
    whole = (tmp_path / "a.h5").read_bytes()
    used = [place for place in range(len(whole)) if whole[place]]

    def damages():
        yield from (whole[:length] for length in range(0, len(whole), 31))
        for place in used[::3]:
            for mask in (1 << place % 8, 0xFF):
                yield whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :]

    def read_all():
        refused = 0
        path = tmp_path / "b.h5"
        with bounded(len(whole)):
            for damaged in damages():
                path.write_bytes(damaged)
                try:
                    with readable(path), closing(Hdf5(path)) as file:
                        for row in file.ragged("b/ragged", "f", slice(None)):
                            assert len(row) < len(whole)
                        file.array("numbers", "iu")
                        file.strings("texts")
                except FormatError:
                    refused += 1
        assert refused

    apart(read_all)
