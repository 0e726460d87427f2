"""A CPU that is too old for the wheel's llama.cpp: said in words, before a process is started that a signal would end."""

from pathlib import Path

import pytest

from serow.engines import wheel_cpu
from serow.engines.llamacpp.runner import LlamaRunner
from serow.engines.process import ChildProcess
from serow.errors import LoadError
from serow.settings import Settings
from serow.system import cpu
from tests.engines.llamacpp.engines import load_request

HASWELL = "fpu sse2 ssse3 fma avx f16c bmi1 avx2 bmi2"


def announce(directory: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    path = directory / "cpuinfo"
    path.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n")
    monkeypatch.setattr(cpu, "_CPUINFO", path)


@pytest.mark.parametrize(
    ("line", "lacking"),
    [
        (f"flags\t\t: {HASWELL}", ""),
        (f"flags\t\t: {HASWELL.replace('fma ', '')}", "fma"),
        ("flags\t\t: fpu sse2 ssse3 avx f16c", "avx2, bmi2, fma"),
        ("Features\t: fp asimd crc32", ""),
        ("bogomips\t: 48", ""),
    ],
    ids=["Haswell", "without FMA", "Ivy Bridge", "an Arm", "nothing is said"],
)
def test_what_an_x86_cpu_lacks_is_named_and_nothing_is_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, lacking: str
) -> None:
    announce(tmp_path, monkeypatch, line)
    told = f"the llama.cpp of the wheel needs a CPU with {lacking}, which this one lacks" if lacking else ""
    assert wheel_cpu.refusal() == told


async def test_no_process_is_started_that_a_signal_would_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoo: Path
) -> None:
    async def start(_: ChildProcess) -> None:
        raise AssertionError("a process was started")

    announce(tmp_path, monkeypatch, "flags\t\t: sse2 avx")
    monkeypatch.setattr(ChildProcess, "start", start)
    with pytest.raises(LoadError, match=r"needs a CPU with avx2, bmi2, f16c, fma, which this one lacks$") as caught:
        await LlamaRunner(load_request(zoo / "zoo-think.gguf"), Settings()).load()
    assert caught.value.hint == wheel_cpu.HINT
