"""What an engine's log says of its buffers, wherever it is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.devices.use import Use
from serow.engines.llamacpp.report import LoadReport, is_on

LOG = b"""\
load_tensors: offloading 24 repeating layers to GPU
load_tensors: offloaded 25/31 layers to GPU
load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
load_tensors:        CUDA0 model buffer size =   861.50 MiB
load_tensors:       CUDA10 model buffer size =     4.00 MiB
llama_context:  CUDA_Host  output buffer size =     0.58 MiB
llama_kv_cache:      CUDA0 KV buffer size =    22.50 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =     1.00 MiB
sched_reserve:      CUDA0 compute buffer size =    15.50 MiB
sched_reserve:  CUDA_Host compute buffer size =     2.00 MiB
"""
MIB = 1 << 20
PLANNED = Use(id="GPU-0", handle="CUDA0", layers=25, weights=1, cache=2, compute=3)


def read(*pieces: bytes) -> LoadReport:
    report = LoadReport()
    for piece in pieces:
        report.feed(piece)
    return report


@pytest.mark.req("DEV-05")
def test_buffers_are_read_by_device_and_purpose() -> None:
    report = read(LOG)
    (use,) = report.measured([PLANNED])
    assert (use.weights, use.cache, use.compute) == (861.5 * MIB, 23.5 * MIB, 15.5 * MIB)
    assert (report.num_layers, report.num_all, use.layers) == (25, 31, 25)
    assert report.size == pytest.approx(sum((92.10, 861.5, 4, 0.58, 22.5, 1, 15.5, 2)) * MIB, abs=8)


@pytest.mark.req("DEV-05")
@given(st.lists(st.integers(0, len(LOG)), max_size=6))
def test_the_log_may_come_in_any_pieces(cuts: list[int]) -> None:
    places = sorted({0, *cuts, len(LOG)})
    pieces = [LOG[start:end] for start, end in pairwise(places)]
    assert read(*pieces).measured([PLANNED]) == read(LOG).measured([PLANNED])


def test_an_engine_that_tells_nothing_holds_what_was_planned() -> None:
    assert read(b"all fine\n").measured([PLANNED]) == (PLANNED,)


@given(st.binary(max_size=300))
def test_no_log_breaks_the_reading(log: bytes) -> None:
    assert read(log, b"\n  A model buffer size = 1.1.1 MiB\n").size >= 0


@pytest.mark.parametrize(
    ("buffer", "device", "expected"),
    [
        ("CUDA0", "CUDA0", True),
        ("CUDA10", "CUDA1", False),
        ("CUDA0_Split", "CUDA0", True),
        ("CUDA_Host", "CUDA0", False),
        ("RPC0[127.0.0.1:50052]", "RPC0 127.0.0.1:50052", True),
        ("RPC0[127.0.0.1:50052]", "RPC1 127.0.0.1:50052", True),
        ("RPC0[127.0.0.1:5005]", "RPC0 127.0.0.1:50052", False),
        ("RPC0[127.0.0.1:50052]", "RPC0[127.0.0.1:50052]", True),
        ("MTL0_Mapped", "MTL0", True),
        ("Vulkan_Host", "Vulkan0", False),
    ],
)
def test_a_buffer_is_named_by_its_device(buffer: str, device: str, expected: bool) -> None:
    assert is_on(buffer, Use(id=device, handle=device.split(" ")[0])) is expected
