"""Pictures of runs and spikes, and the report that holds them."""

from spikenet.analysis.report import Report, Table, write_report

__all__ = ["Report", "Table", "write_report"]
