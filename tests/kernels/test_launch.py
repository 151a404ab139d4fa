"""Prepared launches: torch's numbers whatever the addresses, the first time and after."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from spikenet.kernels.launch import Blocks, Launch, Plans, described

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="Triton does not interpret here")),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


@triton.jit
def scaled(x, shift, y, count, scale, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < count) * scale
    if shift is not None:
        value += tl.load(shift + at, mask=at < count)
    tl.store(y + at, value, mask=at < count)


@pytest.mark.parametrize("device", DEVICES)
def test_equals_torch_at_any_address(device: str) -> None:
    made = Launch(scaled, (3,), (37,), (16,))
    for scale in (2.0, 3.0):
        for start in (0, 1, 4, 1):
            x, shift = torch.randn(2, 50, device=device)[:, start : start + 37]
            y = torch.empty(37, device=device)
            made(x, shift, y, floats=(scale,))
            torch.testing.assert_close(y, scale * x + shift)
            made(x, None, y, floats=(scale,))
            torch.testing.assert_close(y, scale * x)


def test_what_was_compiled_for_none_takes_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in compiles for what it is first given, as Triton does, and says what ran for which."""
    monkeypatch.setattr("spikenet.kernels.launch.interpreted", lambda: False)
    for name in ("_cuda_getDevice", "_cuda_getCurrentRawStream"):
        monkeypatch.setattr(torch._C, name, lambda *_: 0, raising=False)
    ran: list[tuple[bool, bool]] = []

    def compiled(x: torch.Tensor, shift: torch.Tensor | None) -> SimpleNamespace:
        ran.append((shift is None, shift is None))
        run = lambda *given: ran.append((shift is None, given[-1] == 0))  # noqa: E731
        return SimpleNamespace(run=run, function=0, packed_metadata=0)

    made, (x, shift) = Launch({(1, 1, 1): compiled}, (1,), (), ()), torch.randn(2, 16)
    for second in (shift, None, shift, None):
        made(x, second)
    assert ran == [(False, False), (True, True), (False, False), (True, True)]


def test_a_plan_is_made_once() -> None:
    plans: Plans[list[int]] = Plans()
    first = plans.at("a", lambda: [1])
    assert plans.at("a", lambda: [2]) is first
    assert plans.at("b", lambda: [2]) == [2]


@triton.jit
def doubled(x, y, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    block = x.load([1, 0])
    at = tl.arange(0, 16)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    tl.store(y + at, 2.0 * block)


@pytest.mark.parametrize("device", DEVICES)
def test_reads_in_blocks_where_it_is_told_to_begin(device: str) -> None:
    """Rows 1 to 16 of ten, from the second eight columns on: what lies beyond is 0."""
    made = Launch(doubled, (1,), (), (16,), described=(Blocks([10, 8], [24, 1], [16, 16], 32),))
    for _ in range(3):  # at addresses that it knows, and that it does not
        x, y = torch.randn(10, 24, device=device).half(), torch.empty(16, 16, device=device)
        made(x, y)
        expected = torch.zeros(16, 16, device=device)
        expected[:9, :8] = 2.0 * x[1:, 16:].float()
        assert torch.equal(y, expected)


def test_describes_as_triton_does() -> None:
    """Triton's own launcher, with and without descriptions that are kept."""
    driver = pytest.importorskip("triton.backends.nvidia.driver")
    tensor_descriptor = pytest.importorskip("triton.tools.tensor_descriptor")
    told: list[tuple[object, ...]] = []
    signature = {"x": "tensordesc<fp16[16, 16]>", "k": "tensordesc<fp16[16, 16]>", "y": "*fp32", "n": "i32"}
    launch = driver.wrap_handle_tensordesc(lambda *a: told.append(a), signature, [])
    run = SimpleNamespace(launch=launch)
    blocks = Blocks([10, 24], [24, 1], [16, 16]), Blocks([5, 8], [8, 1], [16, 16], 32)
    ours = described(run, blocks)
    flat = getattr(driver, "_BASE_ARGS_FORMAT_LEN", None)
    before = tuple(range(flat or 14))
    for x, k in ((1024, 4096), (2048, 4096), (1024, 4096)):
        theirs = [
            tensor_descriptor.TensorDescriptor(SimpleNamespace(data_ptr=lambda n=n: n, dtype=torch.float16), *b[:3])
            for n, b in ((x, blocks[0]), (k + 32, blocks[1]))
        ]
        for function, arguments in ((launch, theirs), (ours.launch, [x, k])):
            given = (*arguments, 512, 3)
            function(*before, *given) if flat else function(*before, given)
        with_triton, with_us = (
            [getattr(v, "data_ptr", lambda v=v: v)() for v in (a if flat else a[-1])] for a in told[-2:]
        )
        assert with_us == with_triton
        assert told[-1][: len(before)] == told[-2][: len(before)] == before
