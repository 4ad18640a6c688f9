"""Finding plugins: ``importlib.metadata`` is the oracle."""

from __future__ import annotations

import importlib
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from installations import Site

from zcli_core.plugins.discovery import EntryPoint, find_entry_points


def _oracle(path: list[str]) -> list[tuple[str, str, str]]:
    """Name, value without extras, and version, of the first distribution of each name."""
    importlib.invalidate_caches()
    found = {}
    for item in distributions(path=path):
        found.setdefault(item.metadata["Name"].lower().replace("_", "-").replace(".", "-"), item)
    return sorted(
        (point.name, point.value.partition("[")[0].strip(), item.version)
        for item in found.values()
        for point in item.entry_points
        if point.group == "zcli"
    )


def _ours(path: list[str]) -> list[tuple[str, str, str]]:
    return sorted((point.name, point.value, point.version) for point in find_entry_points(path))


def test_discovery_finds_what_importlib_metadata_finds() -> None:
    """On the path that Python runs with, both find the same."""
    assert _ours(sys.path) == _oracle(sys.path)
    assert {"zcli_layers", "zcli_urllib3"} <= {point.name for point in find_entry_points()}


ODD_TEXTS = {
    "plain": "[zcli]\na = mod\n",
    "object": "[zcli]\na = mod.sub:thing.inner\n",
    "extras": "[zcli]\na = mod:thing [extra1, extra2]\n",
    "no spaces": "[zcli]\na=mod\n",
    "many spaces": "[zcli]\n   a   =   mod:thing   \n",
    "comments": "# before\n[zcli]\n# within\na = mod\n\n\n# after\n",
    "dots and dashes in the name": "[zcli]\na.b-c_d = mod\n",
    "other groups": "[console_scripts]\nx = y:z\n[zcli]\na = mod\n[zcli.first]\na = mod\n[zclix]\nno = no\n",
    "group twice": "[zcli]\na = mod\n[other]\nx = y\n[zcli]\nb = mod2\n",
    "two of one name": "[zcli]\na = mod\na = mod2\n",
    "equals in the value": "[zcli]\na = mod:x=y\n",
    "group without entries": "[zcli]\n",
    "empty": "",
    "windows lines": "[zcli]\r\na = mod\r\n",
    "upper case group": "[ZCLI]\na = mod\n",
}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
@pytest.mark.parametrize("kind", ["dist-info", "egg-info"])
def test_discovery_odd_entry_points_are_read(site: Site, text: str, kind: str) -> None:
    """Comments, extras, spaces, odd names and repeated groups mean the same to both."""
    info = site.distribution("some-dist", "", kind=kind)
    (info / "entry_points.txt").write_bytes(text.encode())
    assert _ours([str(site.folder)]) == _oracle([str(site.folder)])


@pytest.mark.parametrize("name", ["plain", "with-dash", "with_underscore", "With.Dots", "UPPER"])
def test_discovery_distribution_name_in_any_form(site: Site, name: str) -> None:
    """The folder's name is enough; no METADATA is read."""
    site.distribution(name, "[zcli]\na = mod\n", version="2.0rc1+local.3")
    (point,) = find_entry_points([str(site.folder)])
    assert point == EntryPoint("a", "mod", name.replace("_", "-"), "2.0rc1+local.3")


@pytest.mark.parametrize("suffix", [".zip", ".whl", ".pyz", ""])
def test_discovery_zip_file_is_read(tmp_path: Path, suffix: str) -> None:
    """An application packed into one file, whatever its name ends with, still has its plugins."""
    file = tmp_path / f"packed{suffix}"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "packed_dist-3.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: packed-dist\nVersion: 3.0\n"
        )
        archive.writestr("packed_dist-3.0.dist-info/entry_points.txt", "[zcli]\np = packed\n[zcli.first]\np = packed\n")
    assert find_entry_points([str(file)]) == [EntryPoint("p", "packed", "packed-dist", "3.0", first=True)]
    assert _ours([str(file)]) == _oracle([str(file)])


def test_discovery_nearer_distribution_wins(tmp_path: Path) -> None:
    """As for an import; differences in how the name is written do not matter."""
    near, far = Site(tmp_path / "near"), Site(tmp_path / "far")
    near.distribution("Some.Dist", "[zcli]\na = near\n", "1.0")
    far.distribution("some-dist", "[zcli]\na = far\nb = far\n", "2.0")
    path = [str(near.folder), str(far.folder), str(near.folder)]
    assert _ours(path) == [("a", "near", "1.0")] == _oracle(path)


def test_discovery_nearer_without_plugins_wins(tmp_path: Path) -> None:
    """Its newer version has dropped the plugin; the old one's must not come back."""
    near, far = Site(tmp_path / "near"), Site(tmp_path / "far")
    near.distribution("some-dist", "[console_scripts]\nx = y:z\n", "2.0")
    far.distribution("some-dist", "[zcli]\na = far\n", "1.0")
    path = [str(near.folder), str(far.folder)]
    assert _ours(path) == [] == _oracle(path)


def test_discovery_marks_the_group_first(site: Site) -> None:
    """The mark belongs to those that are in both groups."""
    site.distribution("d", "[zcli]\na = mod\nb = mod\n[zcli.first]\nb = mod\nc = mod\n")
    assert [(p.name, p.first) for p in find_entry_points([str(site.folder)])] == [("a", False), ("b", True)]


def test_discovery_egg_info_in_any_form(site: Site) -> None:
    """Old layouts of setuptools: ``name-1.0-py3.9.egg-info`` and ``name.egg-info``."""
    for name in ("one-1.0-py3.9.egg-info", "two.egg-info"):
        (site.folder / name).mkdir()
        (site.folder / name / "entry_points.txt").write_text("[zcli]\na = mod\n")
    assert [(p.distribution, p.version) for p in find_entry_points([str(site.folder)])] == [("one", "1.0"), ("two", "")]


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_discovery_other_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    """Python itself passes over it too."""
    file = tmp_path / "file"
    file.write_bytes(content)
    assert find_entry_points([str(file)]) == []


def test_discovery_unreadable_entries_are_ignored(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing folder, a file in place of a folder, metadata that is not a text, a deleted working directory."""
    (site.folder / "single_file-1.0.egg-info").write_text("Name: single-file\n")
    (site.folder / "latin-1.0.dist-info").mkdir()
    (site.folder / "latin-1.0.dist-info" / "entry_points.txt").write_bytes(b"[zcli]\na = m\xf6d\n")
    site.distribution("good", "[zcli]\na = mod\n")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    found = find_entry_points(["", str(tmp_path / "missing"), "\0", str(site.folder)])
    assert [point.distribution for point in found] == ["good"]


def test_discovery_imports_nothing(site: Site) -> None:
    """The module need not even exist."""
    site.distribution("d", "[zcli]\na = module_that_is_not_there\n")
    assert [point.name for point in find_entry_points([str(site.folder)])] == ["a"]


def test_discovery_empty_path_is_the_working_directory(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for an import."""
    site.distribution("d", "[zcli]\na = mod\n")
    monkeypatch.chdir(site.folder)
    assert [point.name for point in find_entry_points([""])] == ["a"]


STALE = ("zcli_core-0.0.1.dist-info", "zcli_core-9.0.dist-info", "Zcli.Core-0.0.1.dist-info", "zcli_core.egg-info")


@pytest.mark.parametrize("stale", STALE)
@pytest.mark.parametrize("nearer", [False, True], ids=["same folder", "nearer folder"])
def test_discovery_empty_metadata_hides_nothing(tmp_path: Path, stale: str, nearer: bool) -> None:
    """An empty folder that an upgrade left behind does not stand for the distribution, wherever it is."""
    site, near = Site(tmp_path / "site"), Site(tmp_path / "near")
    ((near if nearer else site).folder / stale).mkdir()
    site.distribution("zcli-core", "[zcli]\na = mod\n")
    assert _ours([str(near.folder), str(site.folder)]) == [("a", "mod", "1.0")]


def test_discovery_pip_leftovers_double_nothing(site: Site) -> None:
    """What pip has renamed in order to delete it is not installed."""
    site.distribution("zcli-core", "[zcli]\na = mod\n")
    site.distribution("~cli-core", "[zcli]\na = old\n", "0.9")
    site.distribution("~-li-core", "[zcli]\na = old\n", "0.9")
    assert _ours([str(site.folder)]) == [("a", "mod", "1.0")]


@pytest.mark.parametrize("recorded", ["1.9", "1.10", None])
def test_discovery_two_versions_in_a_folder_one_counts(site: Site, recorded: str | None) -> None:
    """The version with a RECORD counts, else the higher one, whatever the order of the folder."""
    for version in ("1.9", "1.10"):
        info = site.distribution("some-dist", f"[zcli]\na = of{version}\n", version)
        if version == recorded:
            (info / "RECORD").touch()
    assert _ours([str(site.folder)]) == [("a", f"of{recorded or '1.10'}", recorded or "1.10")]


@pytest.mark.parametrize("older", ["1.0.dev3", "1.0a1", "1.0rc2", "0.9.post1"])
@pytest.mark.parametrize("newer", ["1.0", "1.0.post1", "1.0.1"])
def test_discovery_release_counts_more_than_earlier_ones(site: Site, older: str, newer: str) -> None:
    """A pre-release is older than its release, though its version is longer (PEP 440)."""
    for version in (older, newer):
        site.distribution("some-dist", f"[zcli]\na = of{version}\n", version)
    assert _ours([str(site.folder)]) == [("a", f"of{newer}", newer)]
