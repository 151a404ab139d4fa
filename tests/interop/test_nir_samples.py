"""The graphs of the NIR paper: the traces that came with them, closed forms, and files that are broken."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spikenet.errors import ArgumentError, FormatError
from spikenet.interop import from_nir

nir = pytest.importorskip("nir")


def traced(sample, reference: str, exact_decay: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Our potentials and spikes of the LIF graph, and the reference: input, potential, spike."""
    known = np.loadtxt(sample(f"01_lif__lif_{reference}.csv"), delimiter=",")
    net = from_nir(sample("01_lif__lif_norse.nir"), dt=1e-4, exact_decay=exact_decay, dtype=torch.float64)
    with torch.no_grad():
        z, state = net[1].trace(net[0](torch.tensor(known[:, 0]).view(-1, 1, 1)))
    return state.v.flatten().numpy(), z.flatten().numpy(), known


def test_lif_with_eulers_steps_gives_norses_trace(sample):
    v, z, known = traced(sample, "norse", exact_decay=False)
    np.testing.assert_allclose(v, known[:, 1], atol=2e-8)  # the file is of a float32 run
    np.testing.assert_array_equal(z, known[:, 2])


def test_lif_with_exact_decay_gives_the_exact_trace(sample):
    """Up to the first spike to the file's precision; afterwards it resets inside a step, ours at the step's end: the
    difference decays exactly until the next."""
    v, z, known = traced(sample, "exact", exact_decay=True)
    tau = float(nir.read(sample("01_lif__lif_norse.nir")).nodes["1"].tau[0])
    first = int(np.flatnonzero(z)[0])
    np.testing.assert_allclose(v[:first], known[:first, 1], atol=1e-14)
    np.testing.assert_array_equal(z, known[:, 2])
    off = known[:, 1] - v
    quiet = z[1:] == 0
    np.testing.assert_allclose(off[1:][quiet], off[:-1][quiet] * math.exp(-1e-4 / tau), atol=1e-12)


@pytest.mark.parametrize(("reference", "late"), [("snntorch", 0), ("spyx", 1)])
def test_lif_fires_when_the_others_do(sample, reference, late):
    _, z, known = traced(sample, reference, exact_decay=False)
    np.testing.assert_array_equal(np.flatnonzero(z) + late, np.flatnonzero(known[:, 2]))


def test_a_leak_above_the_threshold_fires_at_the_closed_form_rate(sample):
    """v = 1.2 (1 - exp(-t / tau)) reaches 1 after tau ln 6, rounded up to steps."""
    net = from_nir(sample("01_lif__debug_spike_representation__two_lif_neurons.nir"), dt=1e-4, exact_decay=True)
    z, _ = net.lif1.trace(torch.zeros(2000, 1, 1, dtype=torch.float64))
    times = np.flatnonzero(z.flatten().numpy())
    assert set(np.diff(times)) == {math.ceil(0.01 * math.log(6) / 1e-4)}


def test_the_cnn_of_sinabs(sample):
    """Its integrators have r = 1 and add their whole input in a step, which is dt = 1."""
    net = from_nir(sample("02_cnn__cnn_sinabs.nir"), dt=1.0)
    assert [type(m).__name__ for m in net[:5]] == ["Conv2d", "IF", "Conv2d", "IF", "AvgPool2d"]
    x = (torch.rand(3, 2, 2, 34, 34) < 0.2).float()
    first = net[0](x)
    torch.testing.assert_close(net[4](net[3](net[2](net[1](first)))), 4 * torch.nn.AvgPool2d(2)(
        net[3](net[2](net[1](first))).flatten(0, 1)).unflatten(0, (3, 2)))  # fmt: skip
    assert net(x).shape == (3, 2, 10)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("01_lif__lif_rockpool.nir", "type mismatch"),
        ("03_rnn__extras__braille_noDelay_bias_zero_subgraph.nir", "does not exist in the graph"),
        ("03_rnn__extras__braille_noDelay_noBias_subtract_subgraph.nir", "does not exist in the graph"),
    ],
)
def test_inconsistent_graphs_are_refused(sample, name, reason):
    with pytest.raises(FormatError, match=reason):
        from_nir(sample(name), dt=1e-4)


def test_what_is_no_graph_is_refused(tmp_path):
    path = tmp_path / "not.nir"
    path.write_bytes(b"no HDF5 here")
    with pytest.raises(FormatError, match=r"not\.nir"):
        from_nir(path, dt=1e-4)


def test_a_graph_does_not_say_its_step(sample):
    with pytest.raises(ArgumentError, match="how long a step"):
        from_nir(sample("01_lif__lif_norse.nir"))


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")  # which Norse calls
@pytest.mark.parametrize(("name", "soft_reset"), [("bias_zero", False), ("noBias_subtract", True)])
def test_the_braille_network_fires_as_in_norse(sample, name, soft_reset):
    """With the reset that the file's name gives. In Norse the recurrent weights, and their bias, are not yet heard in
    the first step."""
    norse = pytest.importorskip("norse.torch")
    from norse.torch.functional import reset

    method = reset.reset_subtract if soft_reset else reset.reset_value
    path = sample(f"03_rnn__braille_noDelay_{name}.nir")
    theirs, ours = (
        norse.from_nir(nir.read(path), dt=1e-4, reset_method=method),
        from_nir(path, dt=1e-4, soft_reset=soft_reset),
    )
    x = (torch.rand(256, 4, 12) < 0.05).float()
    outputs, state = [], None
    with torch.no_grad():
        for now in x:
            z, state = theirs(now, state)
            outputs.append(z)
        current = ours[0](x)
        current[0] -= 0.0 if ours[1].bias is None else ours[1].bias
        expected = ours[2:](ours[1](current))
    assert 0.02 < expected.mean() < 0.6
    assert torch.equal(torch.stack(outputs), expected)
