"""The recurrent operators as torch sees them, and their Triton way: on a CUDA device, or else in the interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikenet.errors import BackendError
from spikenet.kernels import use_backend
from spikenet.layers import Recurrent, RecurrentState
from spikenet.neurons import LIF, Neuron

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
N = 6


class Escape(Neuron):
    """Two inputs and a draw: a threshold that trembles."""

    inputs = ("x", "y")
    state = {"v": 0.0}
    params = {"v_threshold": 1.0}
    draws = {"xi": "uniform"}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": 0.5 * s.v + x.x + 0.5 * x.y, "distance": 0.25 * d.xi}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v - p.v_threshold - h.distance

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v - z}


def on_grid(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Multiples of 1/16 that are exact in bfloat16, so that every order of summation gives the same sum."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return ((values * 0.4 * 16).round() / 16).clamp(-1, 1).to(DEVICE, dtype)


def results(layer: Recurrent, backend: str, dtype: torch.dtype) -> list[Tensor]:
    leaves = [on_grid((23, 2, N), k, dtype).add(0.25).requires_grad_() for k in range(len(layer.neuron.inputs))]
    torch.manual_seed(0)
    start = layer.initial_state(leaves[0][0])
    v, z = start.neuron.v.detach().requires_grad_(), (on_grid((2, N), 7, dtype) > 0.2).to(dtype).requires_grad_()
    with use_backend(backend):
        out, states = layer.trace(*leaves, RecurrentState(z, start.neuron._replace(v=v)))
        ends = [out, states.neuron.v]
        given = [on_grid((23, 2, N), 8 + k, end.dtype) for k, end in enumerate(ends)]
        return [
            *(end.detach() for end in ends),
            *torch.autograd.grad(ends, [*leaves, z, v, *layer.parameters()], given),
        ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", ["LIF", "Escape"])
def test_triton_equals_the_reference(kind: str, dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    made = LIF(nn.Parameter(torch.full((N,), 2.0)), 0.3) if kind == "LIF" else Escape()
    layer = Recurrent(made, N, into=made.inputs[-1]).to(DEVICE)
    layer.weight.data = on_grid((N, N), 3)
    ours, truth = (results(layer, backend, dtype) for backend in ("triton", "reference"))
    assert torch.equal(ours[0], truth[0])
    assert 0.03 < truth[0].float().mean() < 0.6
    tolerance = 1e-5 if dtype == torch.float32 else 5e-3
    for got, expected in zip(ours[1:], truth[1:], strict=True):
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance * scale)


def test_triton_whole_chunked_and_stepped_are_bit_equal() -> None:
    pytest.importorskip("triton")
    layer = Recurrent(Escape(), N, into="y").to(DEVICE)
    x, y = (on_grid((11, 3, N), k) + 0.3 for k in (0, 1))
    start = layer.initial_state(x[0])
    with use_backend("triton"):
        whole, last = layer.run(x, y, start)
        first, state = layer.run(x[:4], y[:4], start)
        rest = [first]
        for now in zip(x[4:], y[4:], strict=True):
            z, state = layer.step(*now, state)
            rest.append(z[None])
    assert torch.equal(torch.cat(rest), whole)
    assert torch.equal(state.neuron.v, last.neuron.v)
    assert torch.equal(state.neuron.rng, last.neuron.rng)


@pytest.mark.parametrize("keep", [False, True])
def test_operators_do_as_they_declare(keep: bool) -> None:
    lif, x = LIF(nn.Parameter(torch.full((N,), 2.0))), torch.randn(25, 2, N)
    params, spans, _ = lif._prepared([x])
    params = [p.detach() for p in params]
    weight, z, state = torch.randn(N, N), torch.zeros(2, N), [torch.zeros(2, N)]
    known = ("test_schema", "test_faketensor")
    forward = (lif._program, [x], 0, weight, z, state, params, spans, None, keep, keep, keep)
    torch.library.opcheck(torch.ops.spikenet.recurrent, forward, test_utils=known)
    checkpoints = torch.ops.spikenet.dynamics(lif._program, [x], state, params, spans, None, True, False, False)[3]
    given = ([z], [x]) if keep else ([], [])
    backward = (
        lif._program,
        [x],
        0,
        weight,
        state,
        params,
        spans,
        None,
        checkpoints,
        x,
        *given,
        [0, 1] if keep else [],
    )
    torch.library.opcheck(torch.ops.spikenet.recurrent_backward, backward, test_utils=known)


def test_a_program_of_another_process_is_refused_by_name() -> None:
    x = torch.randn(5, 2, 3)
    arguments = ("nowhere", [x], 0, torch.eye(3), x[0], [x[0]], [x[0, 0, :1]], [1], None, False, False, False)
    with pytest.raises(BackendError, match="'nowhere' was not traced in this process"):
        torch.ops.spikenet.recurrent(*arguments)
