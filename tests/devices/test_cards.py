"""What the system itself tells of cards, from files as Linux has them."""

from pathlib import Path

import pytest

from serow.devices.cards import find_cards, has_traces, pci_address


def card(root: Path, address: str, *, vendor: str, driver: str = "", **files: str) -> None:
    place = root / "sys/bus/pci/devices" / address
    place.mkdir(parents=True)
    for name, text in {"vendor": vendor, "class": "0x030000", **files}.items():
        (place / name).write_text(f"{text}\n")
    if driver:
        (root / "sys/bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (place / "driver").symlink_to(root / "sys/bus/pci/drivers" / driver)


@pytest.mark.req("DEV-01")
def test_amdgpu_tells_its_memory_in_files(tmp_path: Path) -> None:
    memory = {"mem_info_vram_total": str(16 << 30), "mem_info_vram_used": str(1 << 30), "unique_id": "9a8b"}
    card(tmp_path, "0000:03:00.0", vendor="0x1002", driver="amdgpu", product_name="Radeon Pro W7800", **memory)
    (found,) = find_cards(tmp_path)
    assert (found.vendor, found.name, found.driver) == ("amd", "Radeon Pro W7800", "amdgpu")
    assert (found.total, found.free, found.uuid, found.pci) == (16 << 30, 15 << 30, "GPU-9a8b", "0000:03:00.0")


@pytest.mark.req("DEV-01")
def test_a_card_without_a_driver_is_seen_on_the_bus(tmp_path: Path) -> None:
    card(tmp_path, "0000:01:00.0", vendor="0x10de")
    card(tmp_path, "0000:00:01.0", vendor="0x1af4")  # a virtual machine's screen
    (found,) = find_cards(tmp_path, asks_drivers=False)
    assert (found.vendor, found.driver, found.total) == ("nvidia", "", 0)
    assert has_traces(tmp_path)


def test_files_that_say_nothing_sensible_are_no_memory(tmp_path: Path) -> None:
    card(tmp_path, "0000:03:00.0", vendor="0x1002", driver="amdgpu", mem_info_vram_total="-9", mem_info_vram_used="x" * 9999)
    (found,) = find_cards(tmp_path)
    assert (found.total, found.free) == (0, 0)


def test_an_empty_system_has_no_traces(tmp_path: Path) -> None:
    assert find_cards(tmp_path) == []
    assert not has_traces(tmp_path)


@pytest.mark.parametrize("text", ["00000000:01:00.0", "0000:01:00.0", "00000000:01:00.0".upper()])
def test_an_address_on_the_bus_is_written_one_way(text: str) -> None:
    assert pci_address(text) == "0000:01:00.0"
