"""Neurons whose inputs do nothing but add to a state, as the currents of synapses do: such a state is its own sum."""

from __future__ import annotations

from dataclasses import replace

from spikenet.kernels.dynamics.trace import Operation, Phase, Program


def inlets(program: Program) -> tuple[str, ...]:
    """For each input the state that it is added to last in a step, if that is all that any of them does; else ()."""
    found = [_state(program, name) for name in program.inputs]
    states = [state for state in found if state is not None]
    return tuple(states) if len(set(states)) == len(found) else ()


def without_inputs(program: Program) -> Program:
    """What is left of a step's equations once the `inlets` take in what arrives."""
    results, operations = dict(program.charge.results), list(program.charge.operations)
    for name, state in zip(program.inputs, inlets(program), strict=True):
        (addition,) = _uses(program, name)
        (results[state],) = set(addition.args) - {f"x_{name}"}
        operations.remove(addition)
    return replace(program, inputs=(), charge=Phase(tuple(operations), results))


def _uses(program: Program, name: str) -> list[Operation]:
    return [operation for operation in program.charge.operations if f"x_{name}" in operation.args]


def _state(program: Program, name: str) -> str | None:
    """The state whose next value is a sum with the input `name` as a term, which is used for nothing else."""
    uses = _uses(program, name)
    if len(uses) != 1 or uses[0].word != "add" or len(set(uses[0].args)) != 2:
        return None
    charged = [s for s, value in program.charge.results.items() if value == uses[0].out]
    if len(charged) != 1 or charged[0] not in program.state or f"x_{name}" in program.charge.results.values():
        return None
    h, reset = f"h_{charged[0]}", program.reset.results
    phases = program.charge, program.fire, program.reset
    used = {arg for phase in phases for operation in phase.operations for arg in operation.args}
    passed = [s for s, value in reset.items() if value == h]
    fired = set(program.fire.results.values())
    return charged[0] if passed == charged and not used & {h, uses[0].out} and h not in fired else None
