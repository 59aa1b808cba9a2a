"""Test which instructions are chosen, from what the kernel says and what the environment allows."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertstream.workers import native
from bertstream.workers.native import library, processor
from bertstream.workers.native.processor import ProcessorError

HASWELL = ("fpu", "sse4_2", "avx", "avx2", "fma", "f16c")
ALDER = (*HASWELL, "avx_vnni")
SKYLAKE = (*HASWELL, "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd")
CASCADE = (*SKYLAKE, "avx512_vnni")
ZEN4 = (*CASCADE, "avx512_bf16")
SAPPHIRE = (*ZEN4, "avx_vnni", "amx_bf16", "amx_tile", "amx_int8")


@pytest.fixture(autouse=True)
def _no_failures() -> Iterator[None]:
    yield
    library.failures.clear()


def pretend(monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], machine: str = "x86_64") -> None:
    """Pretend to be on a processor with these flags, and that the environment asks for nothing."""
    for name in native.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processor, "flags", lambda: frozenset(flags))
    monkeypatch.setattr(platform, "machine", lambda: machine)


@pytest.mark.parametrize(
    ("flags", "level", "chosen"),
    [
        (HASWELL, "avx2", "avx2"),
        (ALDER, "avx2", "avx2"),
        (SKYLAKE, "avx512", "avx512"),
        (CASCADE, "vnni", "avx512"),
        (ZEN4, "bf16", "avx512"),
        (SAPPHIRE, "amx", "avx512"),
        (tuple(each for each in SAPPHIRE if each != "avx512vl"), "avx2", "avx2"),
        (tuple(each for each in SAPPHIRE if each != "avx512_bf16"), "vnni", "avx512"),
        (tuple(each for each in SAPPHIRE if each != "amx_int8"), "bf16", "avx512"),
    ],
)
def test_the_library_is_the_one_for_the_processor(
    flags: tuple[str, ...], level: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, flags)
    assert processor.level() == level
    assert native.file_name() == f"operators.x86_64.{chosen}.so"


@pytest.mark.parametrize("flags", [("avx", "avx2", "f16c"), ("sse4_2",), ()])
def test_without_fused_multiplication_there_is_no_library(
    flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, flags)
    assert (processor.level(), processor.flavour(processor.level())) == ("none", "")
    with pytest.raises(native.NativeError, match="the processor has no AVX2"):
        native.build(tmp_path)


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({"BERTSTREAM_CPU": "amx"}, "amx"),
        ({"BERTSTREAM_CPU": "bf16"}, "bf16"),
        ({"BERTSTREAM_CPU": "vnni"}, "vnni"),
        ({"BERTSTREAM_CPU": "avx512"}, "avx512"),
        ({"BERTSTREAM_CPU": "avx2"}, "avx2"),
        ({"BERTSTREAM_CPU": "none"}, "none"),
        ({"BERTSTREAM_CPU": ""}, "amx"),
        ({"BERTSTREAM_AMX": "0"}, "bf16"),
        ({"BERTSTREAM_AMX": "0", "BERTSTREAM_CPU": "avx2"}, "avx2"),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, "avx2"),
        ({"ATEN_CPU_CAPABILITY": "default"}, "none"),
        ({"ATEN_CPU_CAPABILITY": "avx512"}, "amx"),
    ],
)
def test_the_environment_lowers_it(variables: dict[str, str], level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SAPPHIRE)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processor.level() == level


def test_the_environment_does_not_raise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, HASWELL)
    monkeypatch.setenv("BERTSTREAM_CPU", "vnni")
    with pytest.raises(ProcessorError) as raised:
        processor.level()
    assert str(raised.value) == (
        "BERTSTREAM_CPU=vnni asks for what this processor does not have; choose one of none, avx2"
    )


def test_what_is_no_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SAPPHIRE)
    monkeypatch.setenv("BERTSTREAM_CPU", "sse9")
    why = "BERTSTREAM_CPU=sse9 is not one of none, avx2, avx512, vnni, bf16, amx"
    for wrong in (processor.level, processor.environment, native.file_name):
        with pytest.raises(ProcessorError, match=f"^{why}$"):
            wrong()
    assert native.status() == (False, why)


def test_other_makes_have_one_library_and_no_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, (), "aarch64")
    assert native.file_name() == "operators.aarch64.portable.so"
    assert processor.environment() == {}
    monkeypatch.setenv("BERTSTREAM_CPU", "avx2")
    with pytest.raises(ProcessorError, match="is for x86 processors, and this one is aarch64"):
        processor.level()


AVX2 = {
    "BERTSTREAM_CPU": "avx2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
VNNI = {
    "BERTSTREAM_CPU": "vnni",
    "ATEN_CPU_CAPABILITY": "avx512",
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
    "MKL_ENABLE_INSTRUCTIONS": "AVX512_E1",
}
BF16 = VNNI | {
    "BERTSTREAM_CPU": "bf16",
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",
    "MKL_ENABLE_INSTRUCTIONS": "AVX512_E3",
}
# Without BERTSTREAM_CPU: it is for operators, of which there are none.
NONE = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}


@pytest.mark.parametrize(
    ("flags", "variables", "forced"),
    [
        (CASCADE, {}, {}),
        (CASCADE, {"BERTSTREAM_CPU": "vnni"}, {}),  # which is all that it has
        (CASCADE, {"BERTSTREAM_CPU": "avx2"}, AVX2),
        (CASCADE, {"ATEN_CPU_CAPABILITY": "avx2"}, AVX2),
        (CASCADE, {"ATEN_CPU_CAPABILITY": "avx512"}, {}),
        (CASCADE, {"BERTSTREAM_CPU": "vnni", "ATEN_CPU_CAPABILITY": "avx2"}, AVX2),
        (CASCADE, {"BERTSTREAM_CPU": "avx2", "ATEN_CPU_CAPABILITY": "default"}, NONE),
        (CASCADE, {"BERTSTREAM_CPU": "none"}, NONE),
        (CASCADE, {"BERTSTREAM_AMX": "0"}, {}),  # it has none
        (ZEN4, {"BERTSTREAM_AMX": "0"}, {}),
        (ZEN4, {"BERTSTREAM_CPU": "vnni"}, VNNI),
        (SAPPHIRE, {"BERTSTREAM_AMX": "0"}, BF16),
        (SAPPHIRE, {"BERTSTREAM_AMX": "0", "BERTSTREAM_CPU": "amx"}, BF16),
        (SAPPHIRE, {"BERTSTREAM_CPU": "amx"}, {}),
        (HASWELL, {"BERTSTREAM_CPU": "avx2"}, {}),
        (ALDER, {}, {}),
        (ALDER, {"BERTSTREAM_CPU": "avx2"}, AVX2),  # which is without VNNI
    ],
)
def test_torch_and_its_libraries_are_forced_too(
    flags: tuple[str, ...], variables: dict[str, str], forced: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, flags)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processor.environment() == forced


@pytest.mark.parametrize(
    ("flags", "variables", "why"),
    [
        (CASCADE, {"BERTSTREAM_CPU": "none"}, "switched off by BERTSTREAM_CPU=none"),
        (CASCADE, {"BERTSTREAM_CPU": "none", **NONE}, "switched off by BERTSTREAM_CPU=none"),
        (CASCADE, {"ATEN_CPU_CAPABILITY": "default"}, "switched off by ATEN_CPU_CAPABILITY=default"),
        (CASCADE, {"BERTSTREAM_CPU": "avx2", **NONE}, "switched off by ATEN_CPU_CAPABILITY=default"),
        (("sse4_2",), {"BERTSTREAM_CPU": "none"}, "the processor has no AVX2"),
        (("sse4_2",), {"ATEN_CPU_CAPABILITY": "default"}, "the processor has no AVX2"),
    ],
)
def test_the_reason_is_what_keeps_the_operators_off(
    flags: tuple[str, ...], variables: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, flags)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert native.status()[1].startswith(why)
    with pytest.raises(native.NativeError, match=f"^{why}"):
        native.build(tmp_path)


def test_flags_are_those_of_the_first_processor_listed(tmp_path: Path) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nflags\t\t: fpu avx2\nvmx flags\t: x\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert processor.flags(listed) == {"fpu", "avx2"}
    assert processor.flags(tmp_path / "none") == frozenset()


@pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
def test_the_operators_say_what_they_use(compile_cache: Path) -> None:
    native.load(native.build(compile_cache))
    level, flags = processor.level(), processor.flags()
    may_use_bytes = os.environ.get(processor.SWITCH) in (None, "", "vnni", "bf16", "amx")
    parts = [processor.flavour(level)]
    parts += ["vnni"] if may_use_bytes and {"avx512_vnni", "avx_vnni"} & flags else []
    parts += ["bf16"] if level in ("bf16", "amx") else []
    parts += ["amx"] if level == "amx" else []
    said = {"+".join(parts)}
    if level == "avx2" and "avx_vnni" in flags:
        said.add("avx2")  # by a compiler that does not know it
    if level == processor.PORTABLE:
        said.add("portable+dotprod")
    assert native.instructions() in said
