"""The operators as torch sees them, and every word's derivative by finite differences."""

from __future__ import annotations

import platform
import re
from typing import Any

import pytest
import torch

from spikenet.errors import BackendError
from spikenet.kernels import sources, use_backend
from spikenet.kernels.dynamics import numba_backend
from spikenet.kernels.dynamics.numba_text import Variant
from spikenet.kernels.dynamics.ops import _programs
from spikenet.neurons import (
    LIF,
    Neuron,
    atan,
    blend,
    cos,
    detach,
    exp,
    log,
    maximum,
    minimum,
    sin,
    sqrt,
    tanh,
    where,
)
from spikenet.neurons.surrogate import Identity

WORDS = {
    "exp": exp,
    "log": lambda a: log(a * a + 1.0),
    "sqrt": lambda a: sqrt(a * a + 0.5),
    "fourth_root": lambda a: sqrt(sqrt(a * a + 1.0)) + (a * a + 0.5) * sqrt(a * a + 0.5),
    "half_power": lambda a: (a * a + 0.5) ** 0.5,
    "cube": lambda a: a**3,
    "inverse_square": lambda a: (a * a + 0.5) ** -2,
    "tanh": tanh,
    "sin": sin,
    "cos": lambda a: cos(2.0 * a),
    "atan": atan,
    "abs": abs,
    "minimum": lambda a: minimum(a, 0.3),
    "maximum": lambda a: maximum(a * a, 0.5 * a),
    "where": lambda a: where(a > 0.1, exp(a), -a / 3.0),
    "nested": lambda a: where(a <= 0.4, where(a < -0.2, a * a, sin(a)), 2.0 - a),
    "unreached_overflow": lambda a: where(a < 5.0, a, exp(exp(a * 100.0 + 900.0))),
    "infinite_constant": lambda a: where(a < 5.0, a, float("inf")) + where(a > 3.0, -0.0, a),
    "quotient": lambda a: (1.0 - a) / (2.0 + a * a) - 4.0 / (3.0 + a * a),
}


class Words(Neuron):
    """One input a word: the output is the sum of all words of their inputs."""

    inputs = tuple(WORDS)
    state = {"v": 0.0}
    params = {"k": 0.7}
    emit = Identity()

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        total = 0.0
        for name, word in WORDS.items():
            total = total + word(getattr(x, name) + 0.1 * s.v)
        return {"v": p.k * total / len(WORDS)}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v}


def test_every_word_has_its_derivative() -> None:
    generator = torch.Generator().manual_seed(0)
    x = [torch.rand(5, 1, 4, generator=generator, dtype=torch.float64) * 2 - 1 for _ in WORDS]
    x = [v.requires_grad_() for v in x]
    neuron = Words()
    with use_backend("numba"):
        assert torch.autograd.gradcheck(neuron, x, eps=1e-7, atol=1e-7)
        ours = neuron(*x)
        grads = torch.autograd.grad(ours.sum(), x)
    with use_backend("reference"):
        truth = neuron(*x)
        torch.testing.assert_close(ours, truth, rtol=1e-14, atol=1e-14)
    # The reference's autograd meets 0 * inf in the overflowing branch that is not taken; the kernel must not.
    assert all(g.isfinite().all() for g in grads)


def test_detach_stops_one_use_alone() -> None:
    class Square(LIF):
        def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
            return {"v": x.x * detach(x.x)}

    x = torch.full((1, 1, 1), 3.0, requires_grad=True)
    _, state = Square(v_threshold=100.0).run(x)
    (grad,) = torch.autograd.grad(state.v, x)
    assert float(grad) == pytest.approx(3.0, rel=1e-3)  # not 2 x


def test_blend_selects_and_differentiates_to_the_spike() -> None:
    class Blown(LIF):
        """Its potential overflows where it fires; the reset must not turn that into NaN."""

        def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
            return {"v": s.v + exp(x.x * 60.0)}

        def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
            return {"v": blend(detach(z), h.v, p.v_reset)}

    x = torch.tensor([2.0, -2.0, 2.0, -1.0]).view(4, 1, 1).requires_grad_()  # exp(120) is inf in float32
    z, state = Blown().run(x)
    assert z.flatten().tolist() == [1, 0, 1, 0]
    assert torch.isfinite(state.v).all()


@pytest.mark.parametrize(
    "reset",
    [
        lambda h, z, p: blend(z, h.v, p.v_reset),
        lambda h, z, p: blend(1.0 - z, p.v_reset, h.v),
        lambda h, z, p: blend(z, h.v, z * p.v_threshold * 0.3),
        lambda h, z, p: blend(z, h.v * z + h.v, h.v * 0.1),
    ],
)
def test_blend_differentiates_like_its_arithmetic(reset: Any) -> None:
    class Resets(LIF):
        def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
            return {"v": reset(h, z, p)}

    x = torch.randn(20, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    grads = []
    for backend in ("numba", "reference"):
        xi = x.clone().requires_grad_()
        with use_backend(backend):
            Resets()(xi).cumsum(0).sum().backward()
        grads.append(xi.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


def test_opcheck() -> None:
    lif = LIF(torch.nn.Parameter(torch.tensor([2.0, 3.0, 4.0])))
    x = torch.randn(20, 2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    params, spans, _ = lif._prepared([x])
    arguments = (lif._program, [x], [torch.zeros(2, 3)], params, spans, None, False, False, False)
    torch.library.opcheck(torch.ops.spikenet.dynamics, arguments, test_utils=("test_schema", "test_faketensor"))
    keeping = (*arguments[:-3], True, True, True)
    torch.library.opcheck(torch.ops.spikenet.dynamics, keeping, test_utils=("test_schema", "test_faketensor"))


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(5, 2, 3).requires_grad_()
    with pytest.raises(BackendError, match="no second derivative"):
        torch.autograd.grad(LIF()(x).sum(), x, create_graph=True)


def test_a_program_of_another_process_is_refused_by_name() -> None:
    x = torch.randn(5, 6)
    with pytest.raises(BackendError, match="'nowhere' was not traced in this process"):
        torch.ops.spikenet.dynamics("nowhere", [x], [x[0]], [x[0, :1]], [1], None, False, False, False)


def test_compiled_kernels_are_files_of_their_own(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SPIKENET_CACHE", str(tmp_path))
    forget()
    try:
        LIF()(torch.randn(5, 2, 3))
        sources = list((tmp_path / "kernels").glob("*.py"))
        assert len(sources) == 1
        stamp = sources[0].stat().st_mtime_ns
        forget()
        LIF()(torch.randn(5, 2, 3))
        assert sources[0].stat().st_mtime_ns == stamp
        assert list((tmp_path / "kernels" / "__pycache__").glob("*.nbc"))
    finally:
        forget()


def forget() -> None:
    """What this process knows of compiled kernels and their place."""
    numba_backend._compiled.cache_clear()
    sources._folder.cache_clear()


def test_a_cache_that_cannot_be_written_is_said_and_gone_without(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPIKENET_CACHE", str(tmp_path / "file"))
    forget()
    try:
        with pytest.warns(UserWarning, match="Set SPIKENET_CACHE to a folder that can be written"):
            assert LIF()(torch.ones(5, 2, 3)).shape == (5, 2, 3)
    finally:
        forget()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 instructions")
def test_the_compiled_loops_work_on_several_lanes_at_a_time(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SPIKENET_CACHE", str(tmp_path))  # what comes from a cache brings no assembly along
    forget()
    try:
        lif = LIF()
        program = _programs[lif._program]
        x = torch.randn(5, 2, 3).requires_grad_()
        lif(x).sum().backward()
        for direction in ("forward", "backward"):
            kernel = numba_backend._compiled(program, direction, Variant("float32", shared=True))
            (assembly,) = kernel.inspect_asm().values()
            for instruction in ("mulps", "addps", "subps"):
                assert re.search(rf"\bv?{instruction}\b", assembly), f"{direction}: no {instruction}"
    finally:
        forget()
