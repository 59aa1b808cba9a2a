"""Generates the Python code of the .proto files, or checks that it is up to date; also writes descriptor images.

The code of our own files lies beside them. Interfaces of others that the server speaks have theirs in the server, with
a descriptor pool of their own: a process that has their clients' code as well would otherwise have two definitions of
one name, which protobuf refuses.

It runs in an environment of its own (`make proto` and `make check` make it), with the oldest grpcio-tools that the
declared grpcio and protobuf floors admit, since generated code refuses a runtime older than its generator.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
ROOT = PROTOS.parent
PACKAGE = Path("bertstream/v1")
PROTOCOLS = Path("server/bertstream/server/protocols")
SPOKEN = {  # of others -> the folder of its code, from the root
    Path("inference/inference.proto"): PROTOCOLS / "inference",
    Path("tei/v1/tei.proto"): PROTOCOLS / "tei_v1",
}
SHARED_POOL, OWN_POOL = "_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"
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
    """Write all generated modules and their type stubs below `out`, which stands for the root of the repository."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        mypy, mypy_grpc = SCRIPTS / "protoc-gen-mypy", SCRIPTS / "protoc-gen-mypy_grpc"
        both = [*sources(), *SPOKEN]
        protoc(both, f"--python_out={made}", f"--plugin={mypy}", f"--mypy_out=quiet:{made}")
        services = [source for source in sources() if has_service(source)]
        protoc(services, f"--grpc_python_out={made}", f"--plugin={mypy_grpc}", f"--mypy_grpc_out=quiet:{made}")
        for path in (made / PACKAGE).iterdir():
            place(path, out / PROTOS.name / PACKAGE)
        for source, target in SPOKEN.items():
            module = made / source.with_name(f"{source.stem}_pb2.py")
            module.write_text(with_own_pool(module.read_text(encoding="utf-8")), encoding="utf-8")
            for path in (module, module.with_suffix(".pyi")):
                place(path, out / target)


def with_own_pool(code: str) -> str:
    """Return a generated module that adds its definitions to a pool of its own. Raises ValueError if protoc changed."""
    if code.count(SHARED_POOL) != 1:
        raise ValueError("protoc writes another kind of module now")
    return code.replace(SHARED_POOL, OWN_POOL)


def place(path: Path, folder: Path) -> None:
    """Put a file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / path.name)


def generated(root: Path) -> dict[Path, bytes]:
    """Return the generated files below `root` by their paths there."""
    folders = (root / PROTOS.name / PACKAGE, *(root / target for target in SPOKEN.values()))
    found = [path for folder in folders for path in folder.glob("*_pb2*.py*") if path.is_file()]
    return {path.relative_to(root): path.read_bytes() for path in found}


def write() -> None:
    """Replace the generated files, and remove those of .proto files that are gone."""
    for path in generated(ROOT):
        (ROOT / path).unlink()
    generate(ROOT)


def check() -> None:
    """Exit with 1, naming the files, where the committed code is not what the .proto files give."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        new, old = generated(Path(folder)), generated(ROOT)
    stale = sorted(str(path) for path in new.keys() | old.keys() if new.get(path) != old.get(path))
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
