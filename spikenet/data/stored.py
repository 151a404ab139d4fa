"""What data sets in a root folder share: looking for their files, cutting them into parts, downloading."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from spikenet.data.about import About
from spikenet.data.base import EventDataModule, Track, untracked
from spikenet.data.recordings import EventData, Recordings, cut
from spikenet.errors import DataError, FormatError


class StoredData(EventDataModule):
    """A published data set in a root folder.

    Args:
        root: the folder, as the layout of ``spikenet data info`` describes it, or the one that Tonic downloaded to.
        options: those of every `EventDataModule`.

    Errors: DataError for recordings that are missing, FormatError for damaged ones, when they are asked for.
    """

    about: ClassVar[About]
    test_share, val_share = 0.2, 0.1  # where no such part was published

    def __init__(self, root: Path | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = root

    @abstractmethod
    def find(self, root: Path) -> Mapping[str, Recordings]:
        """The recordings of every published part; all in ``"train"`` where no parts were published, and nothing where
        there is none."""

    def names_of_classes(self, root: Path) -> Sequence[str]:
        """Class names in the order of the labels."""
        return self.about.classes

    def read(self) -> EventData:
        """Look for the recordings and cut them into parts."""
        root = self._place()
        found = self.find(root)
        if not len(found.get("train", ())):
            raise self.about.missing(self.root)
        classes, shares = self.names_of_classes(root), (self.test_share, self.val_share)
        return cut(self.about.title, classes, self.about.sensor, found, *shares)

    def prepare(self, track: Track = untracked) -> None:
        """Download the data set through Tonic unless it is there.

        Errors: DataError where Tonic is not installed or does not know the data set, and for a download that failed.
        """
        if not len(self.find(self._place()).get("train", ())):
            download(self.about, self._root(), track)

    def _root(self) -> Path:
        if self.root is None:
            raise self.about.missing(None)
        return Path(self.root)

    def _place(self) -> Path:
        """The root, or the folder in it that Tonic made."""
        root = self._root()
        downloaded = [root / name for name, _ in self.about.tonic if (root / name).is_dir()]
        return downloaded[0] if downloaded else root


def download(about: About, root: Path, track: Track) -> None:
    """Have Tonic download and verify a data set."""
    by_hand = about.missing(root)
    if not about.tonic:
        raise by_hand
    try:
        from tonic import datasets
    except ImportError as error:
        raise DataError(f"{by_hand}; Tonic downloads it: pip install 'spikenet[data]'") from error
    for name, arguments in track(about.tonic, f"{about.title} through Tonic"):
        try:
            getattr(datasets, name)(save_to=str(root), **arguments)
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"Tonic could not download it: {error}. By hand: {by_hand}") from error


def by_class(root: Path, classes: Iterable[str], pattern: str) -> tuple[list[str], list[int]]:
    """Names below the root and class numbers of the files that match in the folder of each class, in fixed order."""
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = sorted(path.name for path in (root / name).glob(pattern) if not path.name.startswith("."))
        names += [f"{name}/{file}" for file in files]
        labels += [label] * len(files)
    return names, labels


def listed(path: Path) -> list[str]:
    """The lines of a list of recordings, without empty ones. Errors: DataError, FormatError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(path, error.start, "is not text in UTF-8") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
