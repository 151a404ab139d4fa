"""Speech Commands (Warden 2018) through the cochlea."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spikenet.data.about import About
from spikenet.data.audio import CHANNELS, SpokenData
from spikenet.data.recordings import Recordings
from spikenet.data.stored import by_class, listed
from spikenet.events import Sensor

_WORDS = """
backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one right
seven sheila six stop three tree two up visual wow yes zero
"""


class SpeechCommands(SpokenData):
    """35 English words of many speakers, version 0.02, a second each, through a cochlea of 700 channels.

    The published lists of validation and test recordings serve as they are; all others are for training. Background
    noise is left out. This is not the data set SSC, which a cochlea also made of these recordings, but cut otherwise.

    Args:
        root: folder that holds a folder for each word.
        pool: neighbouring channels joined to one; 5 makes 140 of 700.
        cochlea: what hears; none takes ``spikenet.events.Cochlea()``.
        options: those of every `EventDataModule`.
    """

    about = About(
        title="Speech Commands",
        content="35 English words of many speakers, through a cochlea model",
        citation="Warden, arXiv 1804.03209, 2018",
        url="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        licence="CC BY 4.0",
        layout="validation_list.txt and testing_list.txt, and <word>/<speaker>_nohash_<number>.wav, unpacked",
        split="published lists of validation and test recordings",
        sensor=Sensor(CHANNELS),
        classes=tuple(_WORDS.split()),
        counts={"all": 105_829},
        md5={"speech_commands_v0.02.tar.gz": "6b74f3901214cb2c2934e98196829835"},
    )

    def find(self, root: Path) -> Mapping[str, Recordings]:
        """The three parts; nothing unless both lists are there."""
        lists = {"val": root / "validation_list.txt", "test": root / "testing_list.txt"}
        if not all(path.is_file() for path in lists.values()):
            return {}
        part_of = {name: part for part, path in lists.items() for name in listed(path)}
        chosen: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
        for name, label in zip(*by_class(root, self.about.classes, "*.wav"), strict=True):
            chosen[part_of.get(name, "train")].append((name, label))
        return {
            part: self.heard(root, [name for name, _ in files], [label for _, label in files])
            for part, files in chosen.items()
        }
