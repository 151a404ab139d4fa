"""What a network costs: operations are counted once, on real spikes (`count`), then priced (`price`)."""

from spikenet.energy.count import LayerWork, Work, count
from spikenet.energy.price import HOROWITZ_45NM, Constants, Energy, picojoules, price
from spikenet.energy.record import record

__all__ = ["HOROWITZ_45NM", "Constants", "Energy", "LayerWork", "Work", "count", "picojoules", "price", "record"]
