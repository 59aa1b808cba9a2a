"""Generates the Python code beside the .proto files, or checks that it is up to date; also writes descriptor images.

It runs in an environment of its own (`make proto` and `make check` make it), with the oldest grpcio-tools that the
declared grpcio and protobuf floors admit, since generated code refuses a runtime older than its generator.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
PACKAGE = Path("bertstream/v1")
SCRIPTS = Path(sysconfig.get_paths()["scripts"])


def protoc(sources: list[Path], *options: str) -> None:
    """Run protoc over `sources`, relative to PROTOS, which has all that they import; protoc itself reports errors."""
    command = [sys.executable, "-P", "-m", "grpc_tools.protoc", f"-I{PROTOS}", *options]
    if subprocess.run([*command, *map(str, sources)], cwd=PROTOS, check=False).returncode:
        raise SystemExit(1)


def sources() -> list[Path]:
    """Return every .proto file of the package, relative to PROTOS."""
    return sorted(path.relative_to(PROTOS) for path in (PROTOS / PACKAGE).glob("*.proto"))


def has_service(source: Path) -> bool:
    """Tell whether a file declares a service; the gRPC plugins would write empty modules for the others."""
    return any(line.startswith("service ") for line in (PROTOS / source).read_text(encoding="utf-8").splitlines())


def generate(out: Path) -> None:
    """Write all generated modules and their type stubs below `out`."""
    mypy, mypy_grpc = SCRIPTS / "protoc-gen-mypy", SCRIPTS / "protoc-gen-mypy_grpc"
    protoc(sources(), f"--python_out={out}", f"--plugin={mypy}", f"--mypy_out=quiet:{out}")
    services = [source for source in sources() if has_service(source)]
    protoc(services, f"--grpc_python_out={out}", f"--plugin={mypy_grpc}", f"--mypy_grpc_out=quiet:{out}")


def generated(root: Path) -> dict[str, bytes]:
    """Return the generated files below `root` by name."""
    return {path.name: path.read_bytes() for path in (root / PACKAGE).glob("*_pb2*.py*") if path.is_file()}


def write() -> None:
    """Replace the generated files, and remove those of .proto files that are gone."""
    for name in generated(PROTOS):
        (PROTOS / PACKAGE / name).unlink()
    generate(PROTOS)


def check() -> None:
    """Exit with 1, naming the files, where the committed code is not what the .proto files give."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        new, old = generated(Path(folder)), generated(PROTOS)
    stale = sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    if stale:
        raise SystemExit(f"not up to date, run `make proto`: {', '.join(stale)}")


def write_image(path: Path, *, source_info: bool) -> None:
    """Write a FileDescriptorSet with all imports, for buf: with comments to lint, without as a baseline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [f"--descriptor_set_out={path.resolve()}", "--include_imports"]
    protoc(sources(), *options, *(["--include_source_info"] if source_info else []))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="change nothing; exit with 1 where code is not up to date")
    action.add_argument("--image", type=Path, metavar="FILE", help="write a descriptor image with comments")
    action.add_argument("--baseline", type=Path, metavar="FILE", help="write a descriptor image without comments")
    arguments = parser.parse_args()
    if arguments.check:
        check()
    elif path := arguments.image or arguments.baseline:
        write_image(path, source_info=arguments.image is not None)
    else:
        write()


if __name__ == "__main__":
    main()
