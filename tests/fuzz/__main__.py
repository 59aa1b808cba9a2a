"""Runs the fuzz tests at random, with ever new seeds, until the time is up or one of them fails: `make fuzz`."""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time

from tests.fuzz.running import EXAMPLES_VARIABLE


def main() -> int:
    """Return the exit status of the first round that fails, or 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="begin no new round after so many (default 10)")
    parser.add_argument("--examples", type=int, default=200, help="of each test in each round (default 200)")
    parser.add_argument("--seed", type=int, help="run one round, of this seed")
    parser.add_argument("pytest_options", nargs="*", help="after --, such as -k StreamLayers")
    asked = parser.parse_args()
    until = time.monotonic() + 60 * asked.minutes
    while True:
        seed = secrets.randbelow(1 << 32) if asked.seed is None else asked.seed
        status = run_round(seed, asked.examples, asked.pytest_options)
        if status or asked.seed is not None or time.monotonic() > until:
            return status


def run_round(seed: int, examples: int, options: list[str]) -> int:
    """One run of all the fuzz tests."""
    repeat = f"python -m tests.fuzz --seed {seed} --examples {examples}"
    sys.stderr.write(f"seed {seed}; to repeat: {repeat}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/fuzz", "--timeout", "0", f"--hypothesis-seed={seed}"]
    return subprocess.run(
        [*command, *options], env={**os.environ, EXAMPLES_VARIABLE: str(examples)}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
