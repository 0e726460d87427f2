"""What engines list and drivers tell becomes one list, in which no card stands twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serow.devices.device import Card, Listed, Listing, usable
from serow.devices.listing import parse_listing
from serow.devices.match import match
from tests.devices.drivers import GIB, nvidia

LIST = """\
Available devices:
  CUDA0: NVIDIA H100 80GB HBM3 (81079 MiB, 80559 MiB free)
  Vulkan0: llvmpipe (LLVM 15.0.6, 256 bits) (2048 MiB, 2048 MiB free)
  RPC0[127.0.0.1:50052]: 127.0.0.1:50052 (24000 MiB, 23000 MiB free)
"""


def cuda(number: int = 0, total: int = 80 * GIB) -> Listed:
    return Listed(f"CUDA{number}", "NVIDIA H100", total, total)


@pytest.mark.req("DEV-01")
def test_a_list_of_devices_is_read_as_the_engine_writes_it() -> None:
    first, second, third = parse_listing(LIST)
    assert first == Listed("CUDA0", "NVIDIA H100 80GB HBM3", 81079 << 20, 80559 << 20)
    assert (second.description, second.total) == ("llvmpipe (LLVM 15.0.6, 256 bits)", 2 * GIB)
    assert third.name == "RPC0[127.0.0.1:50052]"


@pytest.mark.req("DEV-01")
@pytest.mark.parametrize("text", ["", "Available:\n  (none)\n", "\x00\xff", "  CUDA0: (1 MiB)", "  : a (1 MiB, 1 MiB free)"])
def test_what_is_no_device_is_left_out(text: str) -> None:
    assert parse_listing(text) == ()


@given(st.text(max_size=400))
def test_no_text_breaks_the_reading_of_a_list(text: str) -> None:
    assert all(0 <= each.free <= each.total for each in parse_listing(f"  A: b (3 MiB, 9 MiB free)\n{text}"))


@pytest.mark.req("DEV-01")
def test_a_card_that_three_engines_see_is_one_device() -> None:
    listings = [
        Listing(engine="llama.cpp", devices=(cuda(), Listed("Vulkan0", "NVIDIA H100", 80 * GIB, GIB))),
        Listing(engine="ik", devices=(cuda(),)),
        Listing(engine="diffusers", devices=(Listed("cuda:0", "NVIDIA H100", 80 * GIB, GIB, "GPU-0f8d"),)),
    ]
    (device,) = match([nvidia(free=7 * GIB)], listings, {})
    assert device.handles == {"llama.cpp": "CUDA0", "ik": "CUDA0", "diffusers": "cuda:0"}
    assert (device.kind, device.uuid, device.free, device.reason) == ("cuda", "GPU-0f8d", 7 * GIB, "")


@pytest.mark.req("DEV-01")
def test_two_cards_of_one_kind_stay_two() -> None:
    devices = match([nvidia(0), nvidia(1)], [Listing(engine="ik", devices=(cuda(0), cuda(1)))], {})
    assert [(each.uuid, each.handles["ik"]) for each in devices] == [("GPU-0f8d", "CUDA0"), ("GPU-1f8d", "CUDA1")]


@pytest.mark.req("DEV-01")
@pytest.mark.parametrize(
    ("value", "used"),
    [("1", ["1f8d"]), ("1,0", ["1f8d", "0f8d"]), ("GPU-1", ["1f8d"]), ("", []), ("-1", []), ("0,9,1", ["0f8d"])],
)
def test_what_cuda_may_see_is_numbered_as_cuda_numbers_it(value: str, used: list[str]) -> None:
    listing = Listing(engine="ik", devices=tuple(cuda(number) for number in range(len(used))))
    devices = match([nvidia(0), nvidia(1)], [listing], {"CUDA_VISIBLE_DEVICES": value})
    assert [each.uuid.removeprefix("GPU-") for each in usable(devices, "ik")] == used
    unused = [each for each in devices if not each.handles]
    assert all(each.reason == f"hidden: CUDA_VISIBLE_DEVICES={value}" for each in unused)
    assert len(devices) == 2


@pytest.mark.req("DEV-01")
@pytest.mark.parametrize(
    ("card", "listings", "reason"),
    [
        (nvidia(), [Listing(engine="wheel")], "no engine for it is built: serow engine build llama.cpp"),
        (nvidia(), [Listing(engine="ik")], "ik can't use it: built anew where its toolchain is, it can: serow engine build ik"),
        (Card(vendor="amd", pci="0000:03:00.0"), [], "its driver is not loaded"),
        (nvidia(), [Listing(engine="ik", fault="ik hangs")], "ik hangs"),
    ],
)  # fmt: skip
def test_a_card_that_nobody_uses_says_why(card: Card, listings: list[Listing], reason: str) -> None:
    (device,) = match([card], listings, {})
    assert device.reason.startswith(reason)
    assert device.handles == {}


@pytest.mark.req("DEV-01")
def test_a_device_that_no_driver_tells_of_is_one_all_the_same() -> None:
    rpc = Listed("RPC0[127.0.0.1:50052]", "127.0.0.1:50052", 24 * GIB, 23 * GIB)
    other = Listed("RPC1[127.0.0.1:50053]", "127.0.0.1:50053", 24 * GIB, 23 * GIB)
    devices = match([], [Listing(engine="llama.cpp", devices=(rpc, other))], {})
    assert [(each.kind, each.free) for each in devices] == [("rpc", 23 * GIB)] * 2
    assert [each.handles["llama.cpp"] for each in usable(devices, "llama.cpp")] == [rpc.name, other.name]


@pytest.mark.req("DEV-01")
@pytest.mark.parametrize(
    "name", ["llvmpipe (LLVM 15.0.6, 256 bits)", "SwiftShader Device (Subzero)", "Microsoft Basic Render Driver"]
)
def test_a_card_that_is_the_cpu_is_told_as_such(name: str) -> None:
    listing = Listing(engine="llama.cpp", devices=(Listed("Vulkan0", name, GIB, GIB), Listed("Vulkan1", "AMD GPU", GIB, GIB)))
    real, emulated = match([], [listing], {})
    assert (emulated.is_emulated, emulated.is_shared, real.is_emulated, real.reason) == (True, True, False, "")
    assert emulated.handles == {"llama.cpp": "Vulkan0"} and emulated.reason.startswith(
        "the CPU, which a driver gives out as a card"
    )


def test_a_second_graphics_card_is_not_taken_for_the_first() -> None:
    intel = Card(vendor="intel", name="Intel GPU", pci="0000:00:02.0", driver="i915")
    listing = Listing(engine="ik", devices=(Listed("Vulkan0", "Intel(R) UHD Graphics", GIB, GIB),))
    devices = match([nvidia(), intel], [listing], {})
    used = {each.name: bool(each.handles) for each in devices}
    assert used == {"NVIDIA H100": False, "Intel GPU": False, "Intel(R) UHD Graphics": True}


@pytest.mark.parametrize(
    ("total", "free", "expected"),
    [(80, 90, (80, 80)), (0, 5, (80, 80)), (1 << 30, 1, (80, 80)), (80, -1, (80, 0)), (-1, -1, (80, 80))],
)
def test_a_driver_that_lies_about_memory_is_not_believed(total: int, free: int, expected: tuple[int, int]) -> None:
    (device,) = match([nvidia(total=total * GIB, free=free * GIB)], [Listing(engine="ik", devices=(cuda(),))], {})
    assert (device.total // GIB, device.free // GIB) == expected


@pytest.mark.req("DEV-01")
@pytest.mark.parametrize("told", [10**12, 10**18, 0])
def test_a_size_that_no_card_has_is_told_and_nothing_is_planned_there(told: int) -> None:
    (listed,) = parse_listing(f"  CUDA0: NVIDIA H100 ({told} MiB, {told} MiB free)")
    (device,) = match([nvidia(total=told << 20, free=told << 20)], [Listing(engine="llama.cpp", devices=(listed,))], {})
    assert (device.total, device.free, device.handles) == (0, 0, {"llama.cpp": "CUDA0"})
    assert device.reason.startswith(f"is told to have {told << 20} bytes of memory, which no card has")
    (device,) = match([nvidia()], [Listing(engine="llama.cpp", devices=(listed,))], {})
    assert (device.total, device.reason, device.measured_by) == (80 * GIB, "", "")


@pytest.mark.req("DEV-01")
def test_of_engines_that_differ_the_one_that_can_be_right_is_believed() -> None:
    listings = [Listing(engine="ik", devices=(cuda(total=10**18),)), Listing(engine="llama.cpp", devices=(cuda(),))]
    (device,) = match([nvidia(total=0, free=0)], listings, {})
    assert (device.total, device.measured_by) == (80 * GIB, "llama.cpp")


CARDS = st.builds(
    Card, vendor=st.sampled_from(["nvidia", "amd", "intel"]), index=st.integers(0, 3), pci=st.sampled_from("abcd")
)
NAMES = st.sampled_from(["CUDA0", "CUDA1", "Vulkan0", "ROCm0", "odd"])
LISTED = st.lists(st.builds(Listed, NAMES, st.just("x"), st.just(GIB), st.just(GIB)), max_size=4)
LISTINGS = st.builds(Listing, engine=st.sampled_from(["ik", "llama.cpp"]), devices=LISTED.map(tuple))


@given(st.lists(CARDS, max_size=4), st.lists(LISTINGS, max_size=3))
def test_no_card_and_no_engine_with_devices_gets_lost(cards: list[Card], listings: list[Listing]) -> None:
    devices = match(cards, listings, {})
    assert len(devices) >= len(cards)
    assert all(not listing.devices or usable(devices, listing.engine) for listing in listings)
