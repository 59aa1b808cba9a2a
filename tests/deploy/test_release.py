"""What is checked before a release: the version, and that the sdist builds the same wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import release
from deploy.release import ReleaseError


def sources(folder: Path, version: str, changelog: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "tiny"\nversion = "{version}"\n[tool.setuptools]\npy-modules = ["tiny"]\n'
    )
    (folder / "tiny.py").write_text("value = 1\n")
    (folder / "CHANGELOG.md").write_text(changelog)
    return folder


def test_a_version_without_a_section_is_refused(tmp_path: Path) -> None:
    made = sources(tmp_path / "made", "1.2.0", "# Changelog\n\n## [Unreleased]\n\n## [1.1.0]\n")
    with pytest.raises(ReleaseError, match=r"no section \[1\.2\.0\], only Unreleased, 1\.1\.0"):
        release.checked_version(made)
    (made / "CHANGELOG.md").write_text("## [1.2.0] - 2026-01-01\n")
    assert release.checked_version(made) == "1.2.0"


def test_the_sdist_builds_the_same_wheel(tmp_path: Path) -> None:
    made = sources(tmp_path / "made", "1.2.0", "")
    wheel = release.built_wheel(made, tmp_path / "wheel")
    unpacked = release.unpacked(release.built_sdist(made, tmp_path / "sdist"), tmp_path / "unpacked")
    again = release.built_wheel(unpacked, tmp_path / "again")
    assert release.differences(release.contents(wheel), release.contents(again)) == []
    assert sorted(path.name for path in made.iterdir()) == ["CHANGELOG.md", "pyproject.toml", "tiny.py"]

    (unpacked / "tiny.py").write_text("value = 2\n")
    other = release.built_wheel(unpacked, tmp_path / "other")
    found = release.differences(release.contents(wheel), release.contents(other))
    assert found == ["tiny-1.2.0.dist-info/RECORD", "tiny.py"]


def test_a_wheel_that_says_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], folder: Path) -> str:
        return "bertstream 0.9\n" if "--version" in command else ""

    monkeypatch.setattr(release, "run", run)
    with pytest.raises(ReleaseError, match=r"says .bertstream 0\.9."):
        release.check_installation("python3", Path("any.whl"), "1.0", tmp_path)
    release.check_installation("python3", Path("any.whl"), "0.9", tmp_path)


def test_what_fails_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"false: 1$"):
        release.run(["false"], tmp_path)
