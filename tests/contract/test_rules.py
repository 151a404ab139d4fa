"""What every rule that reads spikes keeps to: each class of `spikenet.learning`, alone and with a third factor."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

import spikenet.learning as learning
from spikenet.kernels import use_backend
from spikenet.learning import STDP, DiehlCookSTDP, SpikeRule, TargetSTDP, ThreeFactor, TripletSTDP

KINDS = [v for v in vars(learning).values() if inspect.isclass(v) and issubclass(v, SpikeRule) and v is not SpikeRule]
VARIANTS: dict[str, SpikeRule] = {
    **{kind.__name__: kind() for kind in KINDS},
    "additive": STDP(a_plus=0.1, a_minus=0.1, w_min=-1.0, w_max=2.0),
    "nearest": STDP(nearest=True, a_plus=0.1, a_minus=0.1),
    "soft": STDP(mu_plus=1.0, mu_minus=1.0, w_min=-0.5, a_plus=0.1, a_minus=0.1),
    "powers": STDP(mu_plus=0.02, mu_minus=0.4, a_plus=0.1, a_minus=0.1),
    "triplet": TripletSTDP(nearest=True, mu_minus=0.5, dt=5.0),
    "diehl_cook": DiehlCookSTDP(nu_pre=-0.05, w_max=0.7),
    "target": TargetSTDP(mu=0.2, x_target=1.5),
}
RULES: dict[str, SpikeRule | ThreeFactor] = {
    **VARIANTS,
    **{f"third_{name}": ThreeFactor(rule=rule, tau_eligibility=9.0, lr=0.2) for name, rule in VARIANTS.items()},
    "filtered": ThreeFactor(rule=STDP(a_plus=0.1), tau_eligibility=9.0, tau_modulator=5.0, lr=0.2),
}
SOME = {*(kind.__name__ for kind in KINDS), "third_powers", "filtered"}  # the interpreter is slow
EVERY = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def spikes(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.rand(*shape) < 0.25).to(dtype)


def given(rule: SpikeRule | ThreeFactor, steps: int, batch: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The third factor, if the rule has one."""
    return [torch.randn(steps, batch, dtype=dtype)] if isinstance(rule, ThreeFactor) else []


def first(rule: SpikeRule | ThreeFactor, outs: int, ins: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Weights within the rule's bounds."""
    spiking = rule.rule if isinstance(rule, ThreeFactor) else rule
    return torch.rand(outs, ins, dtype=dtype) * (spiking.w_max - spiking.w_min) + spiking.w_min


def flat(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [v for part in state if part is not None for v in flat(part)]


def equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


@EVERY
def test_parts_and_steps_give_what_the_whole_gives(rule: Any) -> None:
    pre, post, third = spikes(23, 3, 7), spikes(23, 3, 5), given(rule, 23, 3)
    start = first(rule, 5, 7)
    whole, parted, stepped = start.clone(), start.clone(), start.clone()
    expected = rule.run(pre, post, whole, *third)
    assert not torch.equal(whole, start)
    state = None
    for some in (slice(0, 9), slice(9, 9), slice(9, 23)):
        state = rule.run(pre[some], post[some], parted, *(v[some] for v in third), state)
    stepping = rule.init(pre[0], post[0], start, *(v[0] for v in third))
    for now in zip(pre, post, *third, strict=True):
        stepping = rule.step(*now[:2], stepped, *now[2:], stepping)
    for weight, held in ((parted, state), (stepped, stepping)):
        assert torch.equal(weight, whole)
        assert equal(held, expected)


@pytest.mark.parametrize(
    ("name", "backend"), [*((n, "numba") for n in RULES), *((n, "triton") for n in RULES if n in SOME)]
)
def test_backends_learn_the_same(name: str, backend: str) -> None:
    if backend == "triton" and importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    rule: Any = RULES[name]
    device = "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"
    steps, batch, outs, ins = (6, 2, 3, 5) if backend == "triton" else (30, 3, 9, 17)
    pre, post = spikes(steps, batch, ins).to(device), spikes(steps, batch, outs).to(device)
    third, start = [v.float().to(device) for v in given(rule, steps, batch)], first(rule, outs, ins).float().to(device)
    ours, truth = start.clone(), start.clone()
    for chosen, weight in ((backend, ours), ("reference", truth)):
        with use_backend(chosen):
            rule.run(pre, post, weight, *third)
    torch.testing.assert_close(ours, truth, rtol=2e-5, atol=2e-5)
    assert not torch.equal(truth, start)


@EVERY
def test_nothing_happens_in_silence(rule: Any) -> None:
    start = first(rule, 5, 7)
    weight = start.clone()
    rule.run(torch.zeros(9, 2, 7), torch.zeros(9, 2, 5), weight, *given(rule, 9, 2))
    assert torch.equal(weight, start)


@EVERY
def test_weights_stay_within_their_bounds_and_finite(rule: Any) -> None:
    spiking = rule.rule if isinstance(rule, ThreeFactor) else rule
    weight = first(rule, 6, 8)
    rule.run(spikes(300, 4, 8), spikes(300, 4, 6), weight, *given(rule, 300, 4))
    assert weight.isfinite().all()
    assert spiking.w_min <= weight.min()
    assert weight.max() <= spiking.w_max


@EVERY
@pytest.mark.parametrize(("steps", "batch", "outs", "ins"), [(0, 2, 3, 4), (3, 0, 3, 4), (3, 2, 0, 4), (3, 2, 3, 0)])
def test_nothing_is_learned_from_nothing(rule: Any, steps: int, batch: int, outs: int, ins: int) -> None:
    start = first(rule, outs, ins)
    weight = start.clone()
    state = rule.run(spikes(steps, batch, ins), spikes(steps, batch, outs), weight, *given(rule, steps, batch))
    assert torch.equal(weight, start)
    rule.run(spikes(steps, batch, ins), spikes(steps, batch, outs), weight, *given(rule, steps, batch), state)


@EVERY
def test_float32_follows_float64(rule: Any) -> None:
    pre, post, third, start = spikes(20, 2, 7), spikes(20, 2, 5), given(rule, 20, 2), first(rule, 5, 7)
    narrow, wide = start.float(), start.clone()
    rule.run(pre, post, wide, *third)
    rule.run(pre, post, narrow, *third)
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-5)


@EVERY
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_sparse_weights_learn_what_dense_ones_learn(rule: Any, backend: str) -> None:
    """Compressed rows with an empty one among them; the weights that are not held play no part."""
    pre, post, third = spikes(25, 3, 17), spikes(25, 3, 9), given(rule, 25, 3)
    held = torch.rand(9, 17) < 0.4
    held[4] = False
    dense = first(rule, 9, 17)
    dense[dense == 0] = 0.5
    sparse = (dense * held).to_sparse_csr()
    before = sparse.to_dense()
    with use_backend(backend):
        state = rule.run(pre[:11], post[:11], sparse, *(v[:11] for v in third))
        state = rule.run(pre[11:], post[11:], sparse, *(v[11:] for v in third), state)
        expected = rule.run(pre, post, dense, *third)
    torch.testing.assert_close(sparse.to_dense()[held], dense[held], rtol=1e-10, atol=1e-12)
    if isinstance(rule, ThreeFactor):
        torch.testing.assert_close(state.eligibility, expected.eligibility[:, held], rtol=1e-10, atol=1e-12)
    assert not torch.equal(sparse.to_dense(), before)


@EVERY
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_no_sparse_weights_at_all(rule: Any) -> None:
    sparse = torch.zeros(3, 4, dtype=torch.float64).to_sparse_csr()
    rule.run(spikes(5, 2, 4), spikes(5, 2, 3), sparse, *given(rule, 5, 2))
    assert sparse.values().numel() == 0
