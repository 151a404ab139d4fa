"""Energy as tables and pictures: what the report, the end of a run and ``spikenet energy`` show, the same numbers."""

from __future__ import annotations

from typing import Any

from spikenet.analysis import EnergyPictures, Table
from spikenet.energy import (
    FIELD,
    Comparison,
    DataMovement,
    Energy,
    LayerWork,
    Lemaire,
    PerEvent,
    StepStyle,
    Work,
    across_hardware,
    break_even_curve,
    firing_rate,
)

_STEPS = range(1, 17)


def energy_table(compared: Comparison) -> Table:
    """The priced comparison, one row a network, with a range where the constants have one."""
    networks = [
        ("spiking network, measured spikes", compared.snn, ""),
        ("dense ANN twin, one frame per sample", compared.ann_frame, f"{compared.ratio:.2f} x"),
        ("dense ANN twin, every time step", compared.ann_steps, f"{compared.ratio_steps:.2f} x"),
    ]
    if compared.quantised.total != compared.ann_frame.total:
        networks.append(
            ("quantised ANN twin, one frame per sample", compared.quantised, f"{compared.ratio_quantised:.2f} x")
        )
    rows = [(name, _nanojoules(energy), ratio) for name, energy, ratio in networks]
    return Table(("network", "nJ per sample", "against spiking"), rows, numbers=(1, 2))


def cause_table(energy: Energy) -> Table:
    """The spiking network's energy by cause."""
    rows = [(part, f"{spent / 1e3:,.2f}", f"{spent / energy.total:.1%}") for part, spent in energy.parts.items()]
    return Table(("cause", "nJ per sample", "share"), rows, numbers=(1, 2))


def connection_table(work: Work) -> Table:
    """Operations of each layer with weights and of each product of activations, per sample."""
    columns = ("connection", "input", "density", "AC", "MAC", "dense MAC, one frame")
    shown = [layer for layer in work.layers if layer.operation in ("connection", "product")]
    return Table(columns, [_connection_row(layer, work) for layer in shown], numbers=range(2, 6))


def neuron_table(work: Work) -> Table:
    """Updates and spikes of each neuron layer, per sample."""
    columns = ("neurons", "kind", "updates", "spikes", "rate")
    shown = [layer for layer in work.layers if layer.operation == "neuron"]
    return Table(columns, [_neuron_row(layer, work) for layer in shown], numbers=range(2, 5))


def pictures(work: Work) -> EnergyPictures | None:
    """What the report draws; nothing where not one spike reached a connection."""
    rate = firing_rate(work)
    if not rate:
        return None
    models = {"field's formula": FIELD, "step-style": StepStyle(), "Lemaire": Lemaire(), "Loihi": PerEvent()}
    priced = {name: model(work) for name, model in models.items()}
    hardware = across_hardware(work)
    return EnergyPictures(
        layers={name: _by_layer(priced[name]) for name in ("field's formula", "step-style")},
        causes={name: _nano(energy.parts) for name, energy in priced.items()},
        steps=_STEPS,
        break_even={
            "field's formula": break_even_curve(work, FIELD, _STEPS),
            "step-style": break_even_curve(work, StepStyle(), _STEPS),
            "Lemaire": break_even_curve(work, Lemaire(), _STEPS),
            "data movement, not confirmed": break_even_curve(work, DataMovement(), _STEPS),
        },
        operating=(work.T, rate),
        hardware={chip: (e.range[0] / 1e3, e.total / 1e3, e.range[1] / 1e3) for chip, e in hardware.items()},
        unconfirmed=[chip for chip, e in hardware.items() if e.profile.confidence == "unconfirmed"],
    )


def layer_rows(work: Work, energy: Energy) -> list[dict[str, Any]]:
    """One plain row a layer, per sample: operations and pJ by cause."""
    samples = max(work.samples, 1)
    counters = ("acs", "macs", "dense_macs_steps", "dense_macs", "updates", "spikes", "events")
    return [
        {"layer": layer.name, "kind": layer.kind, "operation": layer.operation, "values": layer.values}
        | {name: getattr(layer, name) / samples for name in counters}
        | {f"{part}_pj": float(spent[1].sum()) for part, spent in priced.parts.items()}
        | {"total_pj": priced.total}
        for layer, priced in zip(work.layers, energy.layers, strict=True)
    ]


def _connection_row(layer: LayerWork, work: Work) -> tuple[str, ...]:
    density = f"{layer.events / layer.inputs:.2%}" if layer.inputs and layer.values != "graded" else ""
    counts = (_per_sample(n, work) for n in (layer.acs, layer.macs, layer.dense_macs))
    return (layer.name, layer.values, density, *counts)


def _neuron_row(layer: LayerWork, work: Work) -> tuple[str, ...]:
    spiking = layer.bits.output == 1
    sent, rate = (_per_sample(layer.spikes, work), f"{layer.rate:.2%}") if spiking else ("", "")
    return (layer.name, layer.kind, _per_sample(layer.updates, work), sent, rate)


def _per_sample(total: float, work: Work) -> str:
    return f"{total / work.samples:,.0f}" if total else ""


def _nanojoules(energy: Energy) -> str:
    low, high = energy.range
    spread = f" ({low / 1e3:,.2f} to {high / 1e3:,.2f})" if high > low else ""
    return f"{energy.total / 1e3:,.2f}{spread}"


def _by_layer(energy: Energy) -> dict[str, dict[str, float]]:
    """Layer -> cause -> nJ; one that is connection and neurons at once is one row."""
    rows: dict[str, dict[str, float]] = {}
    for layer in energy.layers:
        for part, spent in layer.parts.items() if layer.total else ():
            row = rows.setdefault(layer.name, {})
            row[part] = row.get(part, 0.0) + float(spent[1].sum()) / 1e3
    return rows


def _nano(parts: dict[str, float]) -> dict[str, float]:
    return {part: picojoules / 1e3 for part, picojoules in parts.items()}
