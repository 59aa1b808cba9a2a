"""The unit for systemd: it starts what there is, waits for as long as the server may drain, and is well confined."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bertstream.server.config import ServeConfig, add_arguments

UNIT = Path(__file__).parents[2] / "deploy/systemd/bertstream.service"
SETTINGS = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))


def test_it_starts_the_server_with_options_that_there_are() -> None:
    program, command, *arguments = SETTINGS["ExecStart"].split()
    assert (Path(program).name, command) == ("bertstream", "serve")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args(arguments).config == "/etc/bertstream/bertstream.toml"


def test_it_waits_for_as_long_as_the_server_may_drain() -> None:
    defaults = ServeConfig()
    assert float(SETTINGS["TimeoutStopSec"]) > defaults.drain_notice_seconds + defaults.drain_seconds + 20


def test_its_user_is_made() -> None:
    assert f"\nu {SETTINGS['User']} " in (UNIT.parent / "bertstream.sysusers").read_text()


def test_its_cache_belongs_to_the_user_alone() -> None:
    assert f"BERTSTREAM_CACHE=/var/cache/{SETTINGS['CacheDirectory']} " in SETTINGS["Environment"]
    assert SETTINGS["CacheDirectoryMode"] == "0700"


def test_systemd_takes_it_and_finds_it_confined(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/bertstream/bin/bertstream", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]  # 2.0 of 10
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
