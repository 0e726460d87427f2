"""Looking at devices: what a driver does to whoever asks it costs nobody else anything."""

import asyncio
import time
from pathlib import Path

import pytest

from serow.devices.asking import CardReader, ask
from serow.devices.device import Card
from serow.devices.inventory import Asked, Inventory
from tests.devices.drivers import GIB, driver, engine, nvidia, told

LIST = "  CUDA0: NVIDIA H100 (81920 MiB, 71680 MiB free)"


def inventory(tmp_path: Path, listing: str = LIST, *, seconds: float = 20.0, patience: float = 20.0) -> Inventory:
    asked = Asked("llama.cpp", engine(tmp_path / "llama-server", listing), seconds=patience)
    reader = CardReader(driver(tmp_path / "driver"), seconds, root=tmp_path)
    return Inventory(lambda: [asked], lambda: True, reader, {})


@pytest.mark.req("DEV-01")
async def test_free_memory_is_read_anew_before_each_decision(tmp_path: Path) -> None:
    told(tmp_path / "driver", nvidia(free=70 * GIB))
    async with inventory(tmp_path) as looked:
        assert await looked.refresh(20)
        assert [each.free for each in looked.devices] == [70 * GIB]
        told(tmp_path / "driver", nvidia(free=3 * GIB))
        assert await looked.refresh(20)
        assert [each.free for each in looked.devices] == [3 * GIB]
        assert looked.devices[0].handles == {"llama.cpp": "CUDA0"}


@pytest.mark.req("DEV-01")
@pytest.mark.parametrize("name", ["nvidia", "i915", "Metal"])
async def test_where_the_driver_tells_nothing_of_memory_the_first_engine_that_lists_a_card_is_asked_each_time(
    tmp_path: Path, name: str
) -> None:
    told(tmp_path / "driver", Card(vendor="nvidia", name="NVIDIA GPU", pci="0000:01:00.0", driver=name))
    async with inventory(tmp_path) as looked:
        for free in (71680, 100, 9000):
            engine(tmp_path / "llama-server", f"  CUDA0: NVIDIA H100 (81920 MiB, {free} MiB free)")
            assert await looked.refresh(20)
            assert [(each.free >> 20, each.measured_by) for each in looked.devices] == [(free, "llama.cpp")]


@pytest.mark.req("DEV-01", "DEV-06")
async def test_nobody_waits_for_an_engine_that_is_slow_but_who_needs_it(tmp_path: Path) -> None:
    told(tmp_path / "driver", nvidia())
    quick = Asked("llama.cpp", engine(tmp_path / "llama-server", LIST))
    slow = Asked("torch", engine(tmp_path / "slow", "hang"), is_slow=True)
    reader = CardReader(driver(tmp_path / "driver"), 20, root=tmp_path)
    async with Inventory(lambda: [quick, slow], lambda: True, reader, {}) as looked:
        assert await looked.refresh(20, "llama.cpp")
        assert [each.handles for each in looked.devices] == [{"llama.cpp": "CUDA0"}]
        assert not await looked.refresh(0.3, "torch") and not await looked.refresh(0.3)
        assert (looked.doubt("llama.cpp"), looked.doubt("torch")) == ("", "what GPUs there are was not known in time")


@pytest.mark.req("DEV-01")
async def test_what_is_slow_is_known_when_it_has_answered(tmp_path: Path) -> None:
    told(tmp_path / "driver", nvidia())
    slow = Asked("torch", engine(tmp_path / "slow", LIST), is_slow=True)
    reader = CardReader(driver(tmp_path / "driver"), 20, root=tmp_path)
    async with Inventory(lambda: [slow], lambda: True, reader, {}) as looked:
        assert await looked.refresh(20)
        assert [each.handles for each in looked.devices] == [{"torch": "CUDA0"}]
        assert not looked.doubt("torch") and not looked.doubt("an engine without devices")


@pytest.mark.req("DEV-01")
async def test_a_driver_that_hangs_costs_its_deadline_once_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "driver").write_text("hang")
    async with inventory(tmp_path, seconds=0.3) as looked:
        assert await looked.refresh(20)
        assert looked.faults == ["the driver of a GPU does not answer: what is told of its memory comes from the engines"]
        began = time.monotonic()
        assert await looked.refresh(20)
        assert time.monotonic() - began < 10
        assert [each.handles for each in looked.devices] == [{"llama.cpp": "CUDA0"}]  # the engine itself has found it
        assert caplog.text.count("does not answer") == 1


@pytest.mark.req("DEV-01")
async def test_an_engine_that_hangs_has_no_devices_and_says_so(tmp_path: Path) -> None:
    told(tmp_path / "driver", nvidia())
    async with inventory(tmp_path, "hang", patience=0.3) as looked:
        assert await looked.refresh(20)
        words = "llama.cpp could not list its devices within 0.3 s"
        assert [each.reason for each in looked.devices] == [words]
        assert looked.doubt("llama.cpp") == words and looked.faults == [words]


@pytest.mark.req("DEV-01")
async def test_an_engine_that_did_not_answer_is_asked_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(tmp_path / "driver", nvidia())
    async with inventory(tmp_path, "hang", patience=0.3) as looked:
        assert await looked.refresh(20)
        engine(tmp_path / "llama-server", LIST)
        assert await looked.refresh(20)
        assert [each.handles for each in looked.devices] == [{}]
        monkeypatch.setattr("serow.devices.inventory.PAUSE", 0.0)
        assert await looked.refresh(20)
        assert [each.handles for each in looked.devices] == [{"llama.cpp": "CUDA0"}]


@pytest.mark.req("DEV-01")
async def test_who_refreshes_waits_no_longer_than_it_says(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("hang")
    async with inventory(tmp_path, seconds=30) as looked:
        assert not await looked.refresh(0.05)
        assert looked.devices == ()


@pytest.mark.req("DEV-01")
async def test_a_card_that_vanishes_is_a_device_no_more(tmp_path: Path) -> None:
    told(tmp_path / "driver", nvidia(0), nvidia(1))
    both = f"{LIST}\n  CUDA1: NVIDIA H100 (81920 MiB, 71680 MiB free)"
    async with inventory(tmp_path, both) as looked:
        assert await looked.refresh(20)
        assert len(looked.devices) == 2
        told(tmp_path / "driver", nvidia(0))
        engine(tmp_path / "llama-server", LIST)
        assert await looked.refresh(20)
        assert [each.uuid for each in looked.devices] == ["GPU-0f8d"]


@pytest.mark.req("DEV-01")
async def test_a_driver_that_dies_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("die")
    async with inventory(tmp_path) as looked:
        assert await looked.refresh(20)
        assert not looked.faults
        told(tmp_path / "driver", nvidia(free=GIB))
        assert await looked.refresh(20)
        assert [each.free for each in looked.devices] == [GIB]


async def test_a_driver_that_talks_nonsense_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text('[{"vendor": 7}]')
    async with inventory(tmp_path) as looked:
        assert await looked.refresh(20)
        assert [each.free for each in looked.devices] == [71680 << 20]


async def test_a_machine_without_a_card_starts_nobody(tmp_path: Path) -> None:
    async with Inventory(lambda: [Asked("wheel", source="no such thing")], lambda: False) as looked:
        assert not looked.may_have_devices
        assert looked.devices == ()


@pytest.mark.parametrize("argv", [("/no/such/program",), ("/bin/false",), ("/bin/sh", "-c", "yes")])
async def test_a_program_that_says_nothing_of_use_is_none(argv: tuple[str, ...]) -> None:
    async with asyncio.timeout(20):
        assert await ask(argv, 10) is None
