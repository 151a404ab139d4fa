"""EventTensor against torch's own sparse tensors and against plain dense operations."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data._utils.pin_memory import pin_memory

from spikenet.errors import ArgumentError, DataError, DtypeError, ShapeError
from spikenet.events import EventTensor


@st.composite
def dense_tensors(draw, features=None):
    """Small [T, B, *F] tensors of counts, empty directions among them, and steps per entry beyond which all is 0."""
    steps, batch = draw(st.integers(0, 5)), draw(st.integers(1, 4))
    features = features or draw(st.sampled_from([(3,), (2, 3, 2), (1,), (4, 1)]))
    lengths = torch.tensor([draw(st.integers(0, steps)) for _ in range(batch)])
    torch.manual_seed(draw(st.integers(0, 2**16)))
    dense = torch.randint(-3, 4, (steps, batch, *features)).clamp(min=0).float()
    dense[torch.arange(steps)[:, None] >= lengths] = 0
    return dense, lengths


@given(dense_tensors())
def test_dense_round_trip(drawn):
    dense, lengths = drawn
    events = EventTensor.from_dense(dense, lengths)
    assert events.shape == tuple(dense.shape)
    assert events.nnz == int((dense != 0).sum())
    assert torch.equal(events.to_dense(), dense)
    assert torch.equal(events.lengths, lengths)


@given(dense_tensors())
def test_layout_is_that_of_a_sparse_csr_tensor(drawn):
    dense, lengths = drawn
    events = EventTensor.from_dense(dense, lengths)
    rows = dense.reshape(dense.shape[0] * dense.shape[1], dense.shape[2:].numel())
    coo = rows.to_sparse().coalesce()
    assert torch.equal(events.indices.long(), coo.indices()[1])
    assert torch.equal(events.values, coo.values())
    assert torch.equal(events.indptr.diff(), torch.bincount(coo.indices()[0], minlength=len(rows)))


@given(st.lists(dense_tensors(features=(2, 3)), min_size=1, max_size=4))
def test_stack_puts_dense_tensors_side_by_side(drawn):
    stacked = EventTensor.stack([EventTensor.from_dense(dense, lengths) for dense, lengths in drawn])
    steps = max(len(dense) for dense, _ in drawn)
    padded = [torch.cat([dense, dense.new_zeros(steps - len(dense), *dense.shape[1:])]) for dense, _ in drawn]
    assert torch.equal(stacked.to_dense(), torch.cat(padded, dim=1))
    assert torch.equal(stacked.lengths, torch.cat([lengths for _, lengths in drawn]))
    assert stacked.nnz == sum(int((dense != 0).sum()) for dense, _ in drawn)


@given(dense_tensors(), st.data())
def test_entry_undoes_stack(drawn, data):
    dense, lengths = drawn
    b = data.draw(st.integers(0, dense.shape[1] - 1))
    entry = EventTensor.from_dense(dense, lengths).entry(b)
    assert torch.equal(entry.to_dense(), dense[: lengths[b], b : b + 1])
    assert entry.lengths.tolist() == [int(lengths[b])]


@given(dense_tensors(), st.integers(-6, 6), st.integers(-6, 6))
def test_slices_of_time(drawn, start, stop):
    dense, lengths = drawn
    part = EventTensor.from_dense(dense, lengths)[start:stop]
    assert torch.equal(part.to_dense(), dense[start:stop])
    first, last, _ = slice(start, stop).indices(len(dense))
    assert torch.equal(part.lengths, (lengths.clamp(max=max(last, first)) - first).clamp(min=0))
    EventTensor(part.indptr, part.indices, part.values, part.shape, part.lengths)  # still passes the checks


def test_open_slices_and_chunks_cover_everything():
    dense = torch.rand(7, 2, 3).round()
    events = EventTensor.from_dense(dense)
    assert torch.equal(events[:].to_dense(), dense)
    chunks = [events[:3], events[3:4], events[4:]]
    assert torch.equal(torch.cat([chunk.to_dense() for chunk in chunks]), dense)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_dense_of_every_real_dtype(dtype):
    dense = torch.randint(0, 2, (3, 2, 4)).to(dtype)
    events = EventTensor.from_dense(dense)
    assert events.values.dtype == torch.float32
    assert torch.equal(events.to_dense(dtype), dense)


def test_non_contiguous_input():
    dense = torch.rand(4, 2, 3).round().permute(2, 1, 0)
    assert torch.equal(EventTensor.from_dense(dense).to_dense(), dense)


def test_facts_and_repr():
    events = EventTensor.from_dense(torch.ones(4, 2, 3, 5), torch.tensor([4, 4]))
    assert (events.T, events.batch, events.features, events.nnz) == (4, 2, (3, 5), 120)
    assert events.device == torch.device("cpu")
    assert repr(events) == "EventTensor(shape=(4, 2, 3, 5), nnz=120, lengths 4..4, device='cpu')"
    empty = EventTensor.from_dense(torch.zeros(2, 0, 3))
    assert repr(empty) == "EventTensor(shape=(2, 0, 3), nnz=0, device='cpu')"


def test_nothing_moves_to_where_it_is():
    events = EventTensor.from_dense(torch.ones(1, 1, 1))
    assert events.to("cpu").values.data_ptr() == events.values.data_ptr()
    assert not events.is_pinned()


def test_every_field_moves():
    events = EventTensor.from_dense(torch.ones(2, 1, 3)).to("meta")
    assert {field.device.type for field in (events.indptr, events.indices, events.values, events.lengths)} == {"meta"}


def test_a_loader_pins_all_fields(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.dtype) or self)
    events, labels = pin_memory((EventTensor.from_dense(torch.ones(2, 1, 3)), torch.tensor([1])))
    assert isinstance(events, EventTensor)
    assert pinned == [torch.int64, torch.int32, torch.float32, torch.int64, labels.dtype]


@pytest.mark.gpu
def test_a_gpu_gives_the_same():
    dense = torch.rand(5, 3, 2, 4).round()
    parts = [EventTensor.from_dense(part).pin_memory() for part in dense.split(1, dim=1)]
    assert all(part.is_pinned() for part in parts)
    there = EventTensor.stack([part.to("cuda", non_blocking=True) for part in parts])
    assert torch.equal(there.to_dense().cpu(), dense)
    assert torch.equal(there[1:4].entry(2).to("cpu").to_dense(), dense[1:4, 2:])
    assert torch.equal(EventTensor.from_dense(dense.cuda()).indices, there.indices)


def test_pickle():
    dense = torch.rand(3, 2, 4).round()
    again = pickle.loads(pickle.dumps(EventTensor.from_dense(dense)))
    assert torch.equal(again.to_dense(), dense)


def parts_of(**changes):
    """A valid tensor of T=2, B=2, F=3 with entries in rows 0, 1 and 3, with some fields replaced."""
    parts = {
        "indptr": torch.tensor([0, 2, 3, 3, 4]),
        "indices": torch.tensor([0, 2, 1, 0], dtype=torch.int32),
        "values": torch.ones(4),
        "shape": (2, 2, 3),
        "lengths": torch.tensor([1, 2]),
    }
    return parts | changes


def test_the_valid_one_is_accepted():
    assert EventTensor(**parts_of()).to_dense().tolist() == [[[1, 0, 1], [0, 1, 0]], [[0, 0, 0], [1, 0, 0]]]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"shape": (2, 2)}, ShapeError, "at least one feature dimension"),
        ({"shape": (2, 2, -3)}, ShapeError, "shape wants"),
        ({"shape": (3, 2, 3)}, ShapeError, r"indptr wants shape \(7,\)"),
        ({"shape": (2, 2, 2**31)}, ShapeError, "at most"),
        ({"values": torch.ones(3)}, ShapeError, "values wants shape"),
        ({"values": torch.ones(4, dtype=torch.float64)}, DtypeError, r"values wants torch\.float32"),
        ({"indices": torch.tensor([0, 2, 1, 0])}, DtypeError, r"indices wants torch\.int32"),
        ({"values": torch.ones(4, device="meta")}, DtypeError, "on cpu"),
        ({"indptr": torch.tensor([0, 3, 2, 3, 4])}, DataError, "never fall"),
        ({"indptr": torch.tensor([0, 2, 3, 3, 3])}, DataError, "rise from 0"),
        ({"indptr": torch.tensor([1, 2, 3, 3, 4])}, DataError, "rise from 0"),
        ({"indices": torch.tensor([0, 3, 1, 0], dtype=torch.int32)}, DataError, "0 to 2"),
        ({"indices": torch.tensor([0, 0, 1, 0], dtype=torch.int32)}, DataError, "ascend strictly"),
        ({"indices": torch.tensor([2, 1, 1, 0], dtype=torch.int32)}, DataError, "ascend strictly"),
        ({"lengths": torch.tensor([1, 3])}, DataError, "lengths want 0 to 2"),
        ({"lengths": torch.tensor([2, 1])}, DataError, "at or after its length"),
    ],
)
def test_broken_parts_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        EventTensor(**parts_of(**changes))


def test_wrong_calls_are_refused():
    events = EventTensor(**parts_of())
    for steps in (3, slice(0, 2, 2), (slice(0, 1), 0)):
        with pytest.raises(ArgumentError, match="slice of time"):
            events[steps]
    with pytest.raises(ArgumentError, match="does not fit a sequence of 2 steps"):
        events.narrow(1, 2)
    with pytest.raises(ArgumentError, match="does not fit a batch of 2"):
        events.entry(2)
    with pytest.raises(ArgumentError, match="received none"):
        EventTensor.stack([])
    with pytest.raises(ShapeError, match="equal features"):
        EventTensor.stack([events, EventTensor.from_dense(torch.ones(1, 1, 4))])
    with pytest.raises(ShapeError, match="from_dense wants"):
        EventTensor.from_dense(torch.ones(2, 3))
    with pytest.raises(DataError, match="at or after its length"):
        EventTensor.from_dense(torch.ones(2, 1, 3), torch.tensor([1]))
