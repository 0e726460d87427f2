"""Texts of models that came from a registry: nobody counted them before they were written."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from serow.errors import ModelFileError
from serow.store import manifest as media
from serow.store.manifest import MANIFEST
from serow.store.name import Name
from serow.store.store import Store
from tests.store.conftest import Make

TOO_LONG = b"x" * ((4 << 20) + 1)


def kept(store: Store, layers: list[tuple[str, bytes]], config: bytes = b"{}") -> None:
    """The model `kept` of zoo-think's weights with other layers."""
    weights = store.resolve("zoo-think").weights

    def layer(media_type: str, data: bytes) -> Mapping[str, Any]:
        digest, _ = store.blobs.put(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    whole = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layer(media.CONFIG, config),
        "layers": [layer(media.WEIGHTS, weights.read_bytes()), *(layer(kind, data) for kind, data in layers)],
    }
    path = store.index.target(Name.parse("kept"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([(media.TEMPLATE, TOO_LONG)], "a part of the model is larger than 4194304 bytes"),
        ([(media.SYSTEM, TOO_LONG)], "a part of the model is larger than 4194304 bytes"),
        ([(media.LICENSE, TOO_LONG[: 3 << 20]), (media.LICENSE, TOO_LONG[: 2 << 20])], "a part of the model is larger than"),
        ([(media.LICENSE, b"%d" % number) for number in range(101)], "101 licenses, more than the 100 allowed"),
        ([(media.PARAMS, b'{"stop": ["' + TOO_LONG[: 1 << 20] + b'"]}')], "a part of the model is larger than 1048576 bytes"),
        ([(media.PARAMS, b'{"stop": [' + b"[]," * 200_000 + b"1]}")], "parameters holds more than 200000 objects and lists"),
        ([(media.MESSAGES, json.dumps([{"role": "user"}] * 1001).encode())], "messages is broken"),
    ],
)
def test_texts_that_nobody_can_hold_make_a_model_that_is_refused_alone(
    store: Store, make: Make, layers: list[tuple[str, bytes]], reason: str
) -> None:
    make("zoo-think")
    kept(store, layers)
    with pytest.raises(ModelFileError, match=reason):
        store.resolve("kept")
    assert [model.name.display_shortest for model in store.list()] == ["zoo-think:latest"]


def test_a_config_of_a_million_lists_is_refused(store: Store, make: Make) -> None:
    make("zoo-think")
    kept(store, [], b'{"x": [' + b"[]," * 1_000_000 + b"1]}")
    with pytest.raises(ModelFileError, match="config holds more than 200000"):
        store.resolve("kept")
