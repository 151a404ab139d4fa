"""Imports point one way, files stay small, and no room is called utils.

Every import statement is read from the source, those inside functions and relative ones too, so nothing depends on
what happens to be loaded. The tests below the rules feed each rule a small bad tree, to show that it can fail.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "spikenet"

LEAVES = {"errors", "cache"}  # every room may import these; they import no room
LAYERS_AND_BELOW = {"layers", "events", "neurons", "kernels"}
LEARNING_AND_BELOW = {"learning", *LAYERS_AND_BELOW}
TOP = {"cli", "interop", "__main__"}  # may import everything below; nothing imports them but the one above
ABOVE = {("__main__", "cli"), ("cli", "interop")}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "cache": {"errors"},
    "kernels": set(),
    "events": {"kernels"},
    "neurons": {"kernels"},
    "layers": {"events", "neurons", "kernels"},
    "models": {"layers", "neurons"},
    "learning": LAYERS_AND_BELOW,
    "simulate": {"learning", "neurons", "events", "kernels"},
    "energy": LAYERS_AND_BELOW,
    "data": {"events"},
    "analysis": {"events"},
    "training": {"energy", "analysis", "layers", "events"},
}
ROOT_ROOM = "spikenet"  # spikenet/__init__.py: gathers the rooms for the user, so no room may lean on it

COMPILERS = {"numba", "triton"}
FORBIDDEN_NAMES = {"utils", "util", "common", "misc", "helpers", "helper"}
LONGEST, LONGEST_KERNEL = 400, 600
LONGER_FOR_A_REASON: dict[str, str] = {}  # path inside the package -> why it may be longer


@dataclass(frozen=True)
class Import:
    """One imported module: ``target`` is its absolute dotted name, ``for_types`` if only a type checker reads it."""

    file: Path
    line: int
    target: str
    for_types: bool

    @property
    def where(self) -> str:
        return f"{self.file.name}:{self.line}"


def dotted(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def targets(node: ast.AST, file: Path, package: Path) -> Iterator[str]:
    """The absolute names a statement imports; ``from a import b`` may mean the module a.b, so it gives a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            here = dotted(file, package).split(".")
            here = here if file.name == "__init__.py" else here[:-1]
            base = ".".join([*here[: len(here) - node.level + 1], *filter(None, [node.module])])
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
            yield node.args[0].value


def imports_of(file: Path, package: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    typing_blocks = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    for_types = {id(inner) for block in typing_blocks for child in block.body for inner in ast.walk(child)}
    for node in ast.walk(tree):
        for target in targets(node, file, package):
            yield Import(file, node.lineno, target, id(node) in for_types)


def all_imports(package: Path) -> list[Import]:
    return [found for file in sorted(package.rglob("*.py")) for found in imports_of(file, package)]


def room_of_file(file: Path, package: Path) -> str:
    first = file.relative_to(package).parts[0].removesuffix(".py")
    return ROOT_ROOM if first == "__init__" else first


def room_of_target(target: str, package: Path) -> str | None:
    """The room a dotted name lies in, or None where it is not ours."""
    first, *rest = target.split(".")
    if first != package.name:
        return None
    is_room = rest and ((package / rest[0]).is_dir() or (package / f"{rest[0]}.py").is_file())
    return rest[0] if is_room else ROOT_ROOM


def allowed(room: str, target: str) -> bool:
    if target == room:
        return True
    if target in TOP:
        return (room, target) in ABOVE
    if room in TOP:
        return True
    if room == ROOT_ROOM:
        return target in MAY_IMPORT
    return target in MAY_IMPORT.get(room, set()) or (target in LEAVES and room not in LEAVES)


def wrong_ways(package: Path) -> list[str]:
    found = []
    for each in all_imports(package):
        room, target = room_of_file(each.file, package), room_of_target(each.target, package)
        if target is not None and not allowed(room, target):
            found.append(f"{each.where}: {room} may not import {target}")
    return found


def unknown_rooms(package: Path) -> list[str]:
    rooms = {room_of_file(file, package) for file in package.rglob("*.py")}
    return sorted(rooms - set(MAY_IMPORT) - TOP - {ROOT_ROOM})


def stray_compilers(package: Path) -> list[str]:
    return [
        f"{each.where}: only kernels imports {each.target.split('.')[0]}"
        for each in all_imports(package)
        if each.target.split(".")[0] in COMPILERS and room_of_file(each.file, package) != "kernels"
    ]


def cycle(package: Path) -> list[str]:
    """The modules of one import cycle (type-checking imports left out), or an empty list."""
    modules = {dotted(file, package) for file in package.rglob("*.py")}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for each in all_imports(package):
        module = each.target if each.target in modules else each.target.rpartition(".")[0]
        source = dotted(each.file, package)
        if module in modules and not each.for_types and module != source:
            graph[source].add(module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def long_files(package: Path) -> list[str]:
    found = []
    for file in sorted(package.rglob("*.py")):
        lines = len(file.read_text(encoding="utf-8").splitlines())
        limit = LONGEST_KERNEL if room_of_file(file, package) == "kernels" else LONGEST
        if lines > limit and file.relative_to(package).as_posix() not in LONGER_FOR_A_REASON:
            found.append(f"{file.relative_to(package)}: {lines} lines, at most {limit}")
    return found


def grab_bags(package: Path) -> list[str]:
    return [str(path.relative_to(package)) for path in package.rglob("*") if path.stem.strip("_") in FORBIDDEN_NAMES]


RULES = [wrong_ways, unknown_rooms, stray_compilers, cycle, long_files, grab_bags]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house(rule):
    assert rule(PACKAGE) == []


def test_table_itself_points_one_way():
    order = list(TopologicalSorter(MAY_IMPORT).static_order())
    assert set(order) == set(MAY_IMPORT), "the table names a room that it does not list"


# Each rule can fail.

GOOD = {
    "__init__.py": "from spikenet.layers import Fold\n",
    "errors.py": "",
    "kernels/__init__.py": "import numba\nfrom spikenet.errors import Oops\n",
    "events/__init__.py": "from .. import kernels\n",
    "neurons/__init__.py": "from ..kernels import scan\n",
    "layers/__init__.py": "from .fold import Fold\n",
    "layers/fold.py": "def f():\n    from spikenet import neurons\n",
    "layers/loop.py": "from . import fold\nfrom spikenet.layers import Fold\n",
    "data/__init__.py": "from ..events import EventTensor\n",
    "training/__init__.py": "",
    "interop/__init__.py": "from spikenet.training import fit\n",
    "cli.py": "from spikenet import LIF\nfrom spikenet.data import SETS\nfrom spikenet.interop import nir\n",
    "__main__.py": "from spikenet.cli import main\n",
}

BAD = [
    (wrong_ways, "kernels/bad.py", "from spikenet.events import EventTensor"),
    (wrong_ways, "kernels/deep/bad.py", "from ...events import EventTensor"),
    (wrong_ways, "kernels/bad.py", "def f():\n    import spikenet.neurons.lif"),
    (wrong_ways, "neurons/bad.py", "from .. import events"),
    (wrong_ways, "events/bad.py", "from importlib import import_module\nimport_module('spikenet.layers')"),
    (wrong_ways, "data/bad.py", "from spikenet.training import fit"),
    (wrong_ways, "training/bad.py", "from spikenet.neurons import LIF"),
    (wrong_ways, "training/bad.py", "if TYPE_CHECKING:\n    from spikenet.data import SETS"),
    (wrong_ways, "layers/bad.py", "from spikenet import LIF"),
    (wrong_ways, "layers/bad.py", "import spikenet"),
    (wrong_ways, "errors.py", "from spikenet import cache\nfrom spikenet.kernels import op"),
    (wrong_ways, "training/bad.py", "from spikenet.cli import main"),
    (wrong_ways, "__init__.py", "from spikenet import interop"),
    (wrong_ways, "interop/bad.py", "from spikenet.cli import main"),
    (unknown_rooms, "attic/__init__.py", ""),
    (unknown_rooms, "extra.py", ""),
    (stray_compilers, "neurons/bad.py", "def f():\n    from numba import njit"),
    (stray_compilers, "layers/bad.py", "import triton.language as tl"),
    (cycle, "layers/fold.py", "from spikenet.layers import Fold"),
    (cycle, "layers/__init__.py", "from .fold import Fold\nfrom .loop import Loop"),
    (long_files, "layers/bad.py", "x = 1\n" * 401),
    (long_files, "kernels/bad.py", "x = 1\n" * 601),
    (grab_bags, "layers/utils/__init__.py", ""),
    (grab_bags, "events/_helpers.py", ""),
]


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / "spikenet" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root / "spikenet"


def test_good_tree_passes(tmp_path):
    package = tree(tmp_path, GOOD)
    assert [complaint for rule in RULES for complaint in rule(package)] == []


@pytest.mark.parametrize(("rule", "name", "text"), BAD)
def test_bad_tree_fails(tmp_path, rule, name, text):
    package = tree(tmp_path, {**GOOD, name: text})
    assert rule(package) != []


def test_longer_kernels_are_allowed(tmp_path):
    assert long_files(tree(tmp_path, {"kernels/scan.py": "x = 1\n" * 600, "layers/fold.py": "x = 1\n" * 400})) == []
