"""The counter-based generator against the known answers of its authors' test vectors, and against statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats

from spikenet.kernels import use_backend
from spikenet.kernels.dynamics.philox import draw, philox
from spikenet.neurons import Neuron
from spikenet.neurons.surrogate import Identity

# Random123 1.09, kat_vectors, philox4x32 with 10 rounds: counter, key, output.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    seed = torch.tensor(signed(key[0] | key[1] << 32))
    words = philox(seed, tuple(torch.tensor([c]) for c in counter))
    assert tuple(int(w) for w in words) == expected


class Draws(Neuron):
    """Emits its draw."""

    state = {"last": 0.0}
    draws = {"d": "uniform"}
    emit = Identity()

    def charge(self, s: Any, x: Any, d: Any, p: Any) -> dict[str, Any]:
        return {"last": d.d + 0.0 * x.x}

    def fire(self, h: Any, p: Any) -> Any:
        return h.last

    def reset(self, h: Any, z: Any, p: Any) -> dict[str, Any]:
        return {"last": h.last}


class NormalDraws(Draws):
    draws = {"d": "normal"}


@pytest.mark.parametrize("kind", [Draws, NormalDraws])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_draws_equal_the_plain_ones(kind: type[Neuron], dtype: torch.dtype) -> None:
    neuron, x = kind(), torch.zeros(300, 2, 700, dtype=dtype)
    state = neuron.initial_state(x[0])._replace(rng=torch.tensor([-123456789012345, 2**32 - 100]))
    with use_backend("numba"):
        ours = neuron.run(x, state)[0]
    lanes = torch.arange(1400)
    name = neuron.draws["d"]
    truth = torch.stack([draw(name, state.rng[0], state.rng[1] + t, lanes, 0, dtype) for t in range(300)]).view(x.shape)
    if kind is Draws:
        assert torch.equal(ours, truth)
    else:
        torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "distribution"), [(Draws, stats.uniform), (NormalDraws, stats.norm)])
def test_draws_have_their_distribution(kind: type[Neuron], distribution: Any) -> None:
    torch.manual_seed(1)
    sample = kind()(torch.zeros(50, 2, 1000)).flatten().double()
    assert stats.kstest(sample.numpy(), distribution.cdf).pvalue > 1e-3
    steps = sample.view(50, 2000)
    assert abs(float(torch.corrcoef(steps).triu(1).max())) < 0.12  # between steps
    assert abs(float(torch.corrcoef(steps.T[:200]).triu(1).abs().mean())) < 0.2  # between lanes


def test_uniform_draws_never_touch_the_ends() -> None:
    sample = Draws()(torch.zeros(20, 1, 50_000))
    assert float(sample.min()) > 0
    assert float(sample.max()) < 1


def test_two_populations_draw_apart_and_a_seed_repeats() -> None:
    x = torch.zeros(5, 2, 30)
    torch.manual_seed(4)
    a, b = Draws()(x), Draws()(x)
    torch.manual_seed(4)
    assert torch.equal(Draws()(x), a)
    assert not torch.equal(a, b)
