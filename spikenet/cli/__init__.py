"""The command ``spikenet``: train, report, energy, generate, simulate, data, bench, export, convert, import,
info.

Every option of a run can stand on the command line or in a YAML file; a preset is such a file that comes with spikenet.
"""

from spikenet.cli.commands import main

__all__ = ["main"]
