"""Pictures of runs and spikes, and the report that holds them."""

from spikenet.analysis.energy_plots import EnergyPictures
from spikenet.analysis.lempel_ziv import lempel_ziv, lempel_ziv_rate
from spikenet.analysis.report import Report, Table, write_report, write_tables

__all__ = ["EnergyPictures", "Report", "Table", "lempel_ziv", "lempel_ziv_rate", "write_report", "write_tables"]
