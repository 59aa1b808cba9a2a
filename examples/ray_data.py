"""Encode the files of a folder on a Ray cluster (RAY_ADDRESS, or one on this machine); call it again to go on.

pip install 'bertstream[ray]'
python examples/ray_data.py corpus/ vectors/
"""

from __future__ import annotations

import sys

from bertstream.ray import encode_files


def main(source: str, output: str, model: str = "all-MiniLM-L6-v2") -> int:
    """Make a file of vectors of each file of texts, with all of its columns."""
    report = encode_files(source, output, model, column="text", keep="all", progress=print)
    print(f"{report.rows:,} rows in {report.files:,} files, {report.skipped:,} of which were done before")
    for path, why in report.failed_files.items():
        print(f"{path}: {why}", file=sys.stderr)
    if report.failed_file:
        print(f"{report.failed_rows:,} rows failed: see {report.failed_file}", file=sys.stderr)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
