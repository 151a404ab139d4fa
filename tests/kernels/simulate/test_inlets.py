"""Which inputs only add to a state, and that a step may then be taken before they are added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from spikenet.kernels.dynamics.ops import registered
from spikenet.kernels.dynamics.reference import step
from spikenet.kernels.simulate.inlets import inlets, without_inputs
from spikenet.neurons import IF, LIF, ConductanceLIF, CubaLIF, CurrentLIF, Izhikevich, Neuron, SynapticLIF, where


@pytest.mark.parametrize(
    ("neuron", "states"),
    [(CurrentLIF(), ("g_e", "g_i")), (ConductanceLIF(), ("g_e", "g_i")), (SynapticLIF(), ("current",))],
    ids=lambda v: type(v).__name__ if isinstance(v, Neuron) else "",
)
def test_a_step_and_then_the_input_is_a_step_with_the_input(neuron: Neuron, states: tuple[str, ...]) -> None:
    program = registered(neuron._program)
    assert inlets(program) == states
    n, real = 500, torch.float64
    x = [torch.randn(n, dtype=real) for _ in program.inputs]
    like = torch.zeros(1, 1, n, dtype=real)
    params = [p.to(real).expand(n) for p in neuron._prepared([like] * len(x))[0]]
    state = [torch.randn(n, dtype=real) * 10 - 50 * (name == "v") for name in program.state]
    whole = step(program, x, state, [], params)
    unused = [torch.full_like(s, torch.nan) for s in x]  # for their shape
    bare = step(replace(without_inputs(program), inputs=program.inputs), unused, state, [], params)
    for name, s in zip(states, x, strict=True):
        bare.state[program.state.index(name)] += s
    assert 0 < whole.z.sum() < n
    assert torch.equal(bare.z, whole.z)
    assert all(map(torch.equal, bare.state, whole.state))


class Current(Neuron):
    """A current `g` that takes the input, in ways that differ in one place each."""

    state = {"v": 0.0, "g": 0.0}
    params = {"keep": 0.9}

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v * p.keep + s.g, "g": s.g * p.keep + x.x}

    def fire(self, h: Any, p: Any) -> Any:
        return h.v - 1.0

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": where(z > 0, 0.0, h.v), "g": h.g}


class AtOnce(Current):
    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        g = s.g * p.keep + x.x
        return {"v": s.v * p.keep + g, "g": g}


class Twice(Current):
    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v * p.keep + x.x, "g": s.g * p.keep + x.x}


class Doubled(Current):
    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + s.g, "g": x.x + x.x}


class Decayed(Current):
    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + s.g, "g": (s.g + x.x) * p.keep}


class Seen(Current):
    def fire(self, h: Any, p: Any) -> Any:
        return h.v + h.g - 1.0


class Fires(Current):
    def fire(self, h: Any, p: Any) -> Any:
        return h.g


class Cleared(Current):
    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.v, "g": where(z > 0, 0.0, h.g)}


class Swapped(Current):
    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.g, "g": h.v}


class Copied(Current):
    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"v": h.g, "g": h.g}


class Shared(Current):
    inputs = ("x", "y")

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + s.g, "g": s.g + x.x + x.y}


class Both(Current):
    inputs = ("x", "y")

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"v": s.v + s.g + x.y, "g": s.g + x.x}


def test_whoever_uses_an_input_otherwise_gets_it_in_time() -> None:
    assert inlets(registered(Current()._program)) == ("g",)
    changed = [kind() for kind in Current.__subclasses__()]
    for neuron in (*changed, IF(), LIF(), CubaLIF(4.0, 2.0, 0.2), Izhikevich()):
        assert inlets(registered(neuron._program)) == (), type(neuron).__name__
