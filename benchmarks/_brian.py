"""One network in Brian2's C++ standalone mode, built from the synapses that spikenet drew. It runs in a process of its
own, with Brian2 and what it needs on the path:

    python benchmarks/_brian.py NETWORK SYNAPSES.npz FOLDER MILLISECONDS PROFILE REAL
"""

import sys

import numpy as np
from brian2 import (
    Hz,
    Network,
    NeuronGroup,
    PoissonInput,
    SpikeMonitor,
    Synapses,
    defaultclock,
    device,
    ms,
    mV,
    prefs,
    set_device,
)


def cuba(known: dict) -> list:
    equations = """
    dv/dt = (g_e + g_i - (v + 49 * mV)) / (20 * ms) : volt (unless refractory)
    dg_e/dt = -g_e / (5 * ms) : volt
    dg_i/dt = -g_i / (10 * ms) : volt
    """
    options = {"threshold": "v >= -50 * mV", "reset": "v = -60 * mV", "refractory": 5 * ms, "method": "exact"}
    cells = NeuronGroup(int(known["n"]), equations, **options)
    cells.v = known["v"] * mV
    parts = [cells]
    for name, change in (("e", "g_e += 1.62 * mV"), ("i", "g_i += -9 * mV")):
        synapses = Synapses(cells, cells, on_pre=change, delay=0.1 * ms, name=f"synapses_{name}")
        synapses.connect(i=known[f"pre_{name}"], j=known[f"post_{name}"])
        parts.append(synapses)
    return parts


def brunel(known: dict) -> list:
    """Input is not heard in the refractory period: Brian2 leaves out writes to a variable that rests then."""
    options = {"threshold": "v >= 20 * mV", "reset": "v = 10 * mV", "refractory": 2 * ms, "method": "exact"}
    cells = NeuronGroup(int(known["n"]), "dv/dt = -v / (20 * ms) : volt (unless refractory)", **options)
    parts = [cells]
    for name, weight in (("e", 0.1), ("i", -0.1 * float(known["g"]))):
        delay = known[f"delay_{name}"] * ms
        one = {"delay": delay[0]} if (delay == delay[0]).all() else {}
        synapses = Synapses(cells, cells, on_pre=f"v += {weight} * mV", name=f"synapses_{name}", **one)
        synapses.connect(i=known[f"pre_{name}"], j=known[f"post_{name}"])
        if not one:
            synapses.delay = delay
        parts.append(synapses)
    parts.append(PoissonInput(cells, "v", int(known["heard"]), float(known["rate"]) * Hz, 0.1 * mV))
    return parts


def main() -> None:
    name, path, folder, duration, profile, real = sys.argv[1:]
    set_device("cpp_standalone", directory=folder, build_on_run=False)
    prefs.codegen.cpp.extra_compile_args_gcc = ["-w", "-O3", "-ffast-math", "-march=native"]
    prefs.core.default_float_dtype = np.dtype(real).type
    defaultclock.dt = 0.1 * ms
    parts = cuba(dict(np.load(path))) if name == "cuba" else brunel(dict(np.load(path)))
    spikes = SpikeMonitor(parts[0], record=False)
    network = Network(*parts, spikes)
    network.run(float(duration) * ms, profile=profile == "1")
    device.build(directory=folder, compile=True, run=False)


if __name__ == "__main__":
    main()
