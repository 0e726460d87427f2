from typing import Any

import msgspec
import pytest

from serow.errors import ModelFileError
from serow.store import manifest as media
from serow.store.manifest import Config, Layer, Manifest, decode, decode_manifest, encode

DIGEST = "sha256:" + "1" * 64


def layer(**changes: Any) -> dict[str, Any]:
    return {"mediaType": media.WEIGHTS, "digest": DIGEST, "size": 1, **changes}


def manifest(**changes: Any) -> bytes:
    return msgspec.json.encode({"schemaVersion": 2, "config": layer(mediaType=media.CONFIG), "layers": [layer()], **changes})


@pytest.mark.parametrize(
    "data",
    (
        *(b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"layers": []}'),
        *(manifest(layers=None), manifest(layers=[layer(size=-1)]), manifest(layers=[layer(size="1")]), manifest(config=5)),
        *(manifest(layers=[layer(digest="sha256:../../etc/passwd")]), manifest(config=layer(digest=""))),
        manifest(junk="x" * media.MANIFEST_LIMIT),
    ),
)
def test_a_malformed_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFileError):
        decode_manifest(data)


def test_unknown_media_types_and_fields_are_kept_or_passed_over() -> None:
    found = decode_manifest(manifest(layers=[layer(mediaType="application/x-new", annotations={"a": 1})], subject={}))
    assert [each.media_type for each in found.layers] == ["application/x-new"]
    assert found.last(media.WEIGHTS) is None


def test_the_last_layer_of_a_kind_counts() -> None:
    found = decode_manifest(manifest(layers=[layer(size=1), layer(size=2), layer(mediaType=media.LICENSE)]))
    last = found.last(media.WEIGHTS)
    assert last is not None and last.size == 2
    assert found.size == 5


def test_a_manifest_is_written_as_the_peer_writes_it() -> None:
    made = Manifest(
        config=Layer(media_type=media.CONFIG, digest=DIGEST, size=1),
        layers=[Layer(media_type=media.WEIGHTS, digest=DIGEST, size=2, parent="base:latest")],
    )
    assert encode(made).decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        f'"config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{DIGEST}","size":1}},'
        f'"layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"{DIGEST}","size":2,"from":"base:latest"}}]}}\n'
    )


def test_json_is_escaped_as_go_escapes_it() -> None:
    assert encode({"a": "<|x|>&\u2028"}) == b'{"a":"\\u003c|x|\\u003e\\u0026\\u2028"}\n'


@pytest.mark.parametrize("data", [b"{}", b'{"model_families": null, "rootfs": {"type": "layers", "diff_ids": []}}'])
def test_an_old_config_is_read(data: bytes) -> None:
    assert decode(data, Config, "config").model_families is None
