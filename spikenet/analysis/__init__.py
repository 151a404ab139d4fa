"""Pictures of runs and spikes, and the report that holds them."""

from spikenet.analysis.energy_plots import EnergyPictures
from spikenet.analysis.report import Report, Table, write_report

__all__ = ["EnergyPictures", "Report", "Table", "write_report"]
