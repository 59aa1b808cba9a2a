"""Test that weights come back unchanged, are in memory once, and that a damaged file is refused when it is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bertstream.workers import native
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs import weights_file
from bertstream.workers.programs.program import ProgramError, ScriptedProgram
from bertstream.workers.programs.weights_file import WeightsError

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.int64)
# Maps a compiled model, touches all of it, and waits to be looked at.
WORKER = """
import sys
from pathlib import Path
from bertstream.workers.programs.program import ScriptedProgram

program = ScriptedProgram.load(Path(sys.argv[1]), "cpu", Path(sys.argv[2]) if sys.argv[2:] else None)
print(sum(float(weight.double().sum()) for weight in program.module.state_dict().values()), flush=True)
sys.stdin.read()
"""


class Layer(nn.Module):
    """Hold parameters and buffers of many types and sizes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(70, 33, generator=generator))
        self.turned = nn.Parameter(torch.randn(3, 5, generator=generator).t())
        self.single = nn.Parameter(torch.tensor(seed + 0.5))
        self.register_buffer("of_float16", torch.randn(7, generator=generator).half())
        self.register_buffer("of_bfloat16", torch.randn(2, 3, 4, 5, generator=generator).bfloat16())
        self.register_buffer("of_float8", torch.randn(5000, generator=generator).to(torch.float8_e4m3fn))
        self.register_buffer("of_int8", torch.randint(-128, 128, (5000,), generator=generator).to(torch.int8))
        self.register_buffer("of_int64", torch.randint(1 << 40, (3,), generator=generator))
        self.register_buffer("of_empty", torch.empty(0, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.turned.sum() * self.single


class Nested(nn.Module):
    """Hold two layers in a list, and one of their weights under a second name."""

    def __init__(self) -> None:
        super().__init__()
        first, second = Layer(1), Layer(2)
        self.layers = nn.ModuleList([first, second])
        self.tied = second.weight

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).sum(1, keepdim=True) * self.tied[:, 0]
        return x


def scripted(module: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated
        return torch.jit.script(module.requires_grad_(False))


def named(module: Any) -> dict[str, Tensor]:
    parameters = module.named_parameters(remove_duplicate=False)
    return dict([*parameters, *module.named_buffers(remove_duplicate=False)])


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    alike = [left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left]
    return left.keys() == right.keys() and all(alike)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.bin"


def put_back(module: Any, path: Path) -> None:
    with path.open("rb") as file:
        weights_file.put_back(module, file, CPU)


@pytest.fixture
def module(path: Path) -> Any:
    """Return a module whose weights are in the file."""
    made = scripted(Nested())
    weights_file.take_out(made, path)
    return made


def test_weights_of_any_type_and_shape_come_back_where_they_were(module: Any, path: Path) -> None:
    expected = named(Nested())
    assert {weight.dtype for weight in expected.values()} == set(DTYPES)
    assert not any(weight.numel() for weight in named(module).values())
    put_back(module, path)
    assert same(named(module), expected)
    x = torch.randn(70, 70, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(module(x), Nested()(x), rtol=1e-4)


def test_a_saved_module_is_small_and_takes_its_weights_back(module: Any, path: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(module, tmp_path / "program.pt")
        loaded = torch.jit.load(tmp_path / "program.pt")
    put_back(loaded, path)
    assert same(named(loaded), named(Nested()))
    assert loaded.state_dict().keys() == Nested().state_dict().keys()


def test_a_tensor_under_two_names_stays_one(module: Any, path: Path) -> None:
    put_back(module, path)
    found = named(module)
    assert found["tied"].data_ptr() == found["layers.1.weight"].data_ptr()
    once = sum(weight.nbytes for weight in found.values()) - found["tied"].nbytes
    pages = len(found) + 1  # for alignment and the index
    assert path.stat().st_size < once + pages * 4096


def test_tensors_are_aligned(module: Any, path: Path) -> None:
    put_back(module, path)
    for weight in named(module).values():
        assert weight.data_ptr() % (4096 if weight.nbytes >= 4096 else 64) == 0


def test_what_is_written_to_a_weight_stays_in_this_process(module: Any, path: Path) -> None:
    put_back(module, path)
    before = path.read_bytes()
    named(module)["layers.0.weight"].fill_(torch.nan)
    assert path.read_bytes() == before
    put_back(module, path)
    assert same(named(module), named(Nested()))


def edited(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Write the file with another index before the same tensors."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    index = json.loads(content[8 : 8 + length])
    edit(index)
    text = json.dumps(index).encode()
    assert max(len(text), length) + 8 < 4096 * -(-(8 + length) // 4096)  # so that the tensors start where they did
    path.write_bytes(len(text).to_bytes(8, "little") + text.ljust(4096 * -(-(8 + length) // 4096) - 8) + content[4096:])


def rename(index: dict[str, Any]) -> None:
    index["tensors"]["other"] = index["tensors"].pop("tied")


@pytest.mark.parametrize(
    "edit",
    [
        rename,
        lambda index: index["tensors"].pop("tied"),
        lambda index: index["tensors"]["tied"].update(offset=1 << 20),
        lambda index: index["tensors"]["tied"].update(offset=-4096),
        lambda index: index["tensors"]["tied"].update(offset="far"),
        lambda index: index["tensors"]["tied"].update(shape=[70, -33]),
        lambda index: index["tensors"]["tied"].update(dtype="nn"),
        lambda index: index["tensors"]["tied"].update(dtype="none"),
        lambda index: index["tensors"]["tied"].update(dtype=5),
        lambda index: index["tensors"]["tied"].pop("shape"),
        lambda index: index.update(size=1),
        lambda index: index.update(size="many"),
        lambda index: index.update(tensors=[]),
        lambda index: index.clear(),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(
    module: Any, path: Path, edit: Callable[[dict[str, Any]], None]
) -> None:
    edited(path, edit)
    with pytest.raises(WeightsError, match=str(path)):
        put_back(module, path)


def damages(content: bytes) -> Iterator[bytes]:
    yield from (content[:length] for length in (0, 7, 8, 1000, 4096, len(content) // 2, len(content) - 1))
    yield content + b"\0"
    yield b"\xff" * 8 + content[8:]
    yield content[:8] + b"\xff" + content[9:]


def test_a_file_that_is_damaged_is_refused(module: Any, path: Path) -> None:
    for damaged in damages(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=str(path)):
            put_back(module, path)


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_compiled_model_without_its_weights_says_what_to_do(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path, damage: str
) -> None:
    compiled = compile_model(checkpoint("bert"), cache=compile_cache)
    for file in compiled.iterdir():
        cut = -1 if damage == "cut" and file.name == weights_file.FILE_NAME else None
        (tmp_path / file.name).write_bytes(file.read_bytes()[:cut])
    if damage == "missing":
        (tmp_path / weights_file.FILE_NAME).unlink()
    with pytest.raises(ProgramError, match=r"weights\.bin.*; compile the model again"):
        ScriptedProgram.load(tmp_path, "cpu")


def sizes(pid: int, file: Path) -> dict[str, int]:
    """Return what a process maps of a file, in kibibytes by the kernel's names."""
    totals: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            inside = line.endswith(str(file))
        elif inside and values[-1:] == ["kB"]:
            totals[name[:-1]] = totals.get(name[:-1], 0) + int(values[0])
    return totals


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what processes share")
def test_workers_of_one_machine_share_their_weights(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    compiled = compile_model(checkpoint("bert"), cache=compile_cache)
    file = (compiled / weights_file.FILE_NAME).resolve()
    operators = [str(native.build(compile_cache))] if native.status()[0] else []
    command = [sys.executable, "-c", WORKER, str(compiled), *operators]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
    ):
        assert one.stdout is not None
        assert other.stdout is not None
        assert one.stdout.readline() == other.stdout.readline() != ""
        for worker in (one, other):
            found = sizes(worker.pid, file)
            assert found["Rss"] > 0.9 * file.stat().st_size / 1024
            assert found["Anonymous"] == 0  # no page is this process's own copy
            assert found["Pss"] <= 0.55 * found["Rss"]
            assert found["Shared_Clean"] + found["Shared_Dirty"] >= 0.95 * found["Rss"]
