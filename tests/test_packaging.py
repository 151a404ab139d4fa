"""The wheel holds the package and nothing else: no tests, no links, but the presets and the type marker."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
DIST_INFO = f"spikenet-{VERSION}.dist-info"

pytest.importorskip("hatchling", reason="the build backend is installed with the dev extra")


def build(kind: str, folder: Path) -> Path:
    """Run the installed build backend, so nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("wheel", tmp_path_factory.mktemp("wheel")))


def test_wheel_holds_only_the_package(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"spikenet", DIST_INFO}
    assert {Path(name).suffix for name in wheel.namelist() if name.startswith("spikenet/")} <= {
        ".html",
        ".py",
        ".toml",
        ".yaml",
        ".typed",
        ".xz",
    }


def test_wheel_holds_the_whole_package(wheel):
    source = {
        path.relative_to(ROOT).as_posix()
        for suffix in ("*.py", "*.html", "*.toml", "*.yaml", "py.typed")
        for path in (ROOT / "spikenet").rglob(suffix)
    }
    assert "spikenet/py.typed" in source
    assert source <= set(wheel.namelist())


def test_wheel_has_licence_and_command(wheel):
    assert f"{DIST_INFO}/licenses/LICENSE" in wheel.namelist()
    assert b"spikenet = spikenet.cli:main" in wheel.read(f"{DIST_INFO}/entry_points.txt")


def test_source_archive_leaves_the_links_out(tmp_path):
    with tarfile.open(build("sdist", tmp_path)) as archive:
        members = archive.getmembers()
    tops = {member.name.split("/")[1] for member in members}
    assert {"spikenet", "tests", "pyproject.toml", "LICENSE", "README.md"} <= tops
    assert not tops & {"neurons", "kernels"}
    assert not any(member.issym() for member in members)


@pytest.mark.parametrize("room", ["neurons", "kernels"])
def test_top_level_links_lead_into_the_package(room):
    link = ROOT / room
    if not link.exists():
        pytest.skip("not a checkout")
    assert link.is_symlink()
    assert link.resolve() == ROOT / "spikenet" / room
