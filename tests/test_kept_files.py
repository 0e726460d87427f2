"""Files that outlive a version are read by the next one: as the first version wrote them, and with what a later one adds."""

import msgspec
import pytest
from msgspec import Struct

from serow.cli.background import Record
from serow.engines.check.checks import Check
from serow.engines.home import Build
from serow.keys import Key

FIRST: dict[type[Struct], str] = {
    Build: '{"sha256": "00", "source": "ik-0.1.tar.gz", "built_at": "2026-01-01T00:00:00+00:00"}',
    Check: '{"engine": "ik", "build": "b", "model": "m", "flags": {}}',
    Key: '{"name": "laptop", "sha256": "00"}',
    Record: '{"address": "http://127.0.0.1:11434", "pid": 1, "born": 0.5}',
}


@pytest.mark.parametrize("kind", FIRST, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("later", [{}, {"of_a_later_version": [1]}], ids=["first", "later"])
def test_what_another_version_has_written_is_read(kind: type[Struct], later: dict[str, object]) -> None:
    assert isinstance(msgspec.json.decode(msgspec.json.encode(msgspec.json.decode(FIRST[kind]) | later), type=kind), kind)
