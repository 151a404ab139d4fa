"""Every spatial operation equals torch's own on the dense tensor, exactly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from spikenet.errors import ArgumentError, ShapeError
from spikenet.events import EventTensor, crop, flip, merge_polarities, pad, pool, select_polarity, shift
from tests.events.draws import CAMERA, COCHLEA, assert_is, pairs

WIDTH = st.integers(-2, 3)


def pooled(dense, kernel):
    """torch's average pool times the window, with windows at the edge as small as what is left."""
    steps, batch, *features = dense.shape
    if dense.numel() == 0:  # torch refuses to pool nothing
        sizes = [-(-size // k) for size, k in zip(features[-len(kernel) :], kernel, strict=True)]
        return dense.new_zeros(steps, batch, *features[: -len(kernel)], *sizes)
    flat = dense.reshape(steps * batch, -1, *features[-len(kernel) :])
    if len(kernel) == 1:
        whole = F.avg_pool1d(F.pad(flat, (0, -flat.shape[-1] % kernel[0])), kernel) * kernel[0]
    else:
        whole = F.avg_pool2d(flat, kernel, ceil_mode=True, divisor_override=1)
    return whole.round().reshape(steps, batch, *features[: -len(kernel)], *whole.shape[2:])


@given(pairs(CAMERA, least=-4), st.integers(1, 6), st.integers(1, 6))
def test_pool_of_pictures(drawn, height, width):
    dense, events = drawn
    assert_is(pool(events, (height, width)), pooled(dense, (height, width)), events.lengths)


@given(pairs(COCHLEA, least=-4), st.integers(1, 13))
def test_pool_of_channels(drawn, width):
    dense, events = drawn
    assert_is(pool(events, (width,)), pooled(dense, (width,)), events.lengths)


@given(pairs(CAMERA), st.tuples(WIDTH, WIDTH, WIDTH, WIDTH))
def test_pad_adds_and_cuts(drawn, widths):
    dense, events = drawn
    left, right, top, bottom = widths
    if min(left + right + dense.shape[-1], top + bottom + dense.shape[-2]) < 0:
        with pytest.raises(ShapeError, match="cut off more than the features"):
            pad(events, widths)
        return
    roomy = F.pad(dense, (3, 3, 3, 3))  # torch's pad refuses to cut more on one side than there is
    rows = roomy[..., 3 - top : 3 + dense.shape[-2] + bottom, 3 - left : 3 + dense.shape[-1] + right]
    assert_is(pad(events, widths), rows, events.lengths)


@given(pairs(), st.data())
def test_crop_is_a_slice(drawn, data):
    dense, events = drawn
    count = data.draw(st.integers(1, len(events.features)))
    start, size, expected = [], [], dense
    for axis in range(-count, 0):
        start.append(data.draw(st.integers(0, dense.shape[axis])))
        size.append(data.draw(st.integers(0, dense.shape[axis] - start[-1])))
        expected = expected.narrow(axis, start[-1], size[-1])
    assert_is(crop(events, start, size), expected, events.lengths)


@given(pairs(CAMERA), st.integers(-9, 9), st.integers(-9, 9))
def test_shift_moves_and_loses(drawn, down, right):
    dense, events = drawn
    roomy = F.pad(dense, (9, 9, 9, 9))
    height, width = dense.shape[-2:]
    moved = roomy[..., 9 - down : 9 - down + height, 9 - right : 9 - right + width]
    assert_is(shift(events, (down, right)), moved, events.lengths)


@given(pairs(), st.data())
def test_flip_is_torch_flip(drawn, data):
    dense, events = drawn
    dim = data.draw(st.integers(-len(events.features), -1))
    expected = torch.flip(dense, (dim,))
    assert_is(flip(events, dim), expected, events.lengths)
    assert_is(flip(events, dim + dense.ndim), expected, events.lengths)


@given(pairs(CAMERA), st.data())
def test_polarities(drawn, data):
    dense, events = drawn
    p = data.draw(st.integers(0, dense.shape[2] - 1))
    assert_is(select_polarity(events, p), dense[:, :, p : p + 1], events.lengths)
    assert_is(merge_polarities(events), dense.sum(2, keepdim=True), events.lengths)


def test_counts_of_opposite_sign_leave_nothing():
    events = EventTensor.from_dense(torch.tensor([[[1.0, -1.0, 2.0]]]))
    assert_is(pool(events, (2,)), torch.tensor([[[0.0, 2.0]]]), torch.tensor([1]))


def test_keys_beyond_32_bits():
    """A sensor so large that row and address together need 64 bits."""
    wide = EventTensor(
        torch.tensor([0, 1, 2, 2, 3]),
        torch.tensor([0, 1 << 29, (1 << 30) - 1], dtype=torch.int32),
        torch.ones(3),
        (4, 1, 1 << 30),
    )
    mirrored = flip(wide, -1)
    assert mirrored.indices.tolist() == [(1 << 30) - 1, (1 << 29) - 1, 0]
    assert mirrored.indptr.tolist() == [0, 1, 2, 2, 3]
    assert pool(wide, (1 << 29,)).to_dense().flatten().tolist() == [1, 0, 0, 1, 0, 0, 0, 1]


def test_the_original_is_untouched():
    dense = torch.rand(3, 2, 2, 4, 4).round()
    events = EventTensor.from_dense(dense)
    for made in (pool(events, (2, 2)), flip(events, -1), shift(events, (1, 1)), crop(events, (0, 0), (4, 4))):
        made.values.fill_(7)
        made.indices.zero_()
    assert torch.equal(events.to_dense(), dense)


@pytest.mark.parametrize(
    ("operation", "error", "words"),
    [
        (lambda e: pool(e, (2, 0)), ArgumentError, "windows of 1 or more"),
        (lambda e: pool(e, (1, 1, 1, 1)), ShapeError, "pool wants 1 to 3 axes"),
        (lambda e: pool(e, ()), ShapeError, "pool wants 1 to 3 axes"),
        (lambda e: pad(e, (1, 2, 3)), ShapeError, "in pairs"),
        (lambda e: pad(e, (1, 2) * 4), ShapeError, "pad wants 1 to 3 axes"),
        (lambda e: pad(e, (1 << 30, 0, 1 << 30, 0)), ShapeError, "features want at most"),
        (lambda e: crop(e, (0, 3), (4, 2)), ShapeError, "does not fit features"),
        (lambda e: crop(e, (-1, 0), (2, 2)), ShapeError, "does not fit features"),
        (lambda e: crop(e, (0, 0), (2,)), ShapeError, "does not fit features"),
        (lambda e: shift(e, (1, 1, 1, 1)), ShapeError, "shift wants 1 to 3 axes"),
        (lambda e: flip(e, 0), ArgumentError, "flip wants a feature axis, -3 to -1 or 2 to 4"),
        (lambda e: flip(e, -4), ArgumentError, "flip wants a feature axis"),
        (lambda e: select_polarity(e, 2), ShapeError, "wants 0 to 1, received 2"),
        (lambda _: merge_polarities(EventTensor.from_dense(torch.ones(1, 1, 3))), ShapeError, "P, H"),
    ],
)
def test_what_does_not_fit_is_refused(operation, error, words):
    with pytest.raises(error, match=words):
        operation(EventTensor.from_dense(torch.ones(2, 1, 2, 4, 4)))


@pytest.mark.gpu
@given(drawn=pairs(CAMERA))
def test_a_gpu_gives_the_same(drawn):
    dense, events = drawn
    there = events.to("cuda")
    assert_is(pool(there, (2, 3)), pooled(dense, (2, 3)), events.lengths)
    assert_is(pad(there, (1, 2, -1, 3)), F.pad(dense, (1, 2, -1, 3)), events.lengths)
    assert_is(flip(there, -1), torch.flip(dense, (-1,)), events.lengths)
    assert_is(merge_polarities(there), dense.sum(2, keepdim=True), events.lengths)
    assert_is(shift(there, (1, -1)), shift(events, (1, -1)).to_dense(), events.lengths)
    assert_is(select_polarity(there, 0), dense[:, :, :1], events.lengths)
