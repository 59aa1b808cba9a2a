"""Write the pages of the site, ready for mkdocs: `python -m deploy.site FOLDER`; `make docs` then builds it."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from deploy.site import commands, protocol, sdk
from deploy.site.pages import pages


def main() -> None:
    """Write all pages into the folder that the command line names, in place of what was there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image", type=Path, required=True, help="the protos' descriptors, with their comments")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    made = {
        "reference/protocol.md": protocol.page(arguments.image.read_bytes()),
        "reference/sdk.md": sdk.page(),
        "reference/commands.md": commands.page(),
    }
    for name, content in {**pages(), **made}.items():
        path = arguments.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


if __name__ == "__main__":
    main()
