"""DVS-Lip (Tan et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spikenet.data.about import About
from spikenet.data.recordings import FileRecordings, Recordings
from spikenet.data.stored import StoredData, by_class
from spikenet.events import Sensor

_WORDS = """
accused action allow allowed america american another around attacks banks become being benefit benefits between billion
called capital challenge change chief couple court death described difference different during economic education
election england evening everything exactly general germany giving ground happen happened having heavy house hundreds
immigration judge labour leaders legal little london majority meeting military million minutes missing needs number
numbers paying perhaps point potential press price question really right russia russian saying security several should
significant spend spent started still support syria syrian taken taking terms these thing think times tomorrow under
warning water welcome words worst years young
"""


class DVSLip(StoredData):
    """Lips that speak one of 100 English words, seen by a real event camera, 128 x 128 pixels, ON and OFF.

    The published parts have different speakers. 10 % of the train part, stratified by word, are held out for
    validation; their speakers are in the train part too. Times count from the first event.

    Args:
        root: folder that holds the folder DVS-Lip.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="DVS-Lip",
        content="100 English words read from the lips by an event camera",
        citation="Tan, Wang, Han, Cao, Wu, Zha, CVPR 2022",
        url="https://sites.google.com/view/event-based-lipreading",
        layout="DVS-Lip/train/<word>/<number>.npy and DVS-Lip/test/<word>/<number>.npy, unpacked from DVS-Lip.zip",
        split="published train and test parts; validation is 10 % of the train part, stratified, always the same",
        sensor=Sensor(128, 128, 2),
        classes=tuple(_WORDS.split()),
        md5={"DVS-Lip.zip": "2dcb959255122d4cdeb6094ca282494b"},
    )

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """Both parts."""
        found: dict[str, Recordings] = {}
        for part in ("train", "test"):
            folder = root / "DVS-Lip" / part
            names, labels = by_class(folder, self.about.classes, "*.npy")
            if names:
                found[part] = FileRecordings(folder, names, labels, self.about.sensor, "npy", from_start=True)
        return found
