import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from serow.errors import ModelFileError
from serow.store.manifest import JSON, TENSOR, Layer
from serow.store.tensors import Affine, Place, Plain, laid_out, refuse_kind, tensors_of

_SIZES = {"BF16": 2, "F32": 4, "U32": 4, "U8": 1}


def blob(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], **metadata: str) -> Path:
    """A safetensors file of zeros."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, size = end, _SIZES[dtype]
        for side in shape:
            size *= side
        end = start + size
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (start, end)}
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"\0" * end)
    return path


@pytest.mark.req("PIC-01")
@pytest.mark.parametrize("key", ["w", "unet/w", "data"])
def test_a_tensor_stands_under_its_name_its_whole_name_or_data(tmp_path: Path, key: str) -> None:
    path = blob(tmp_path / "0", {key: ("BF16", (3, 4))})
    assert tensors_of({"w": path}, "unet") == {"w": Plain(Place(path, key), (3, 4))}


@pytest.mark.req("PIC-01")
@pytest.mark.parametrize(("words", "bits"), [(8, 4), (16, 8)])
def test_three_layers_are_one_tensor(tmp_path: Path, words: int, bits: int) -> None:
    files = {
        "w": blob(tmp_path / "0", {"w": ("U32", (3, words))}),
        "w_scale": blob(tmp_path / "1", {"data": ("BF16", (3, 2))}),
        "w_qbias": blob(tmp_path / "2", {"unet/w_qbias": ("BF16", (3, 2))}),
    }
    places = Place(files["w"], "w"), Place(files["w_scale"], "data"), Place(files["w_qbias"], "unet/w_qbias")
    assert tensors_of(files, "unet") == {"w": Affine(*places, bits, 32, (3, 64))}


@pytest.mark.req("PIC-01")
@pytest.mark.parametrize(("group_size", "words", "bits"), [(64, 32, 8), (32, 8, 4), (64, 16, 4)])
def test_one_blob_holds_words_scales_and_biases(tmp_path: Path, group_size: int, words: int, bits: int) -> None:
    tensors = {"w": ("U32", (3, words)), "w.scale": ("BF16", (3, 2)), "w.bias": ("BF16", (3, 2))}
    path = blob(tmp_path / "0", tensors, quant_type=f"int{bits}", group_size=str(group_size))
    places = Place(path, "w"), Place(path, "w.scale"), Place(path, "w.bias")
    assert tensors_of({"w": path}, "unet") == {"w": Affine(*places, bits, group_size, (3, 2 * group_size))}


@pytest.mark.req("PIC-01")
@pytest.mark.parametrize("kind", ["nvfp4", "NVFP4", "mxfp8"])
def test_what_only_the_peers_engine_reads_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    path = blob(tmp_path / "0", {"w": ("U32", (3, 8)), "w.scale": ("U8", (3, 4))}, quant_type=kind, group_size="16")
    with pytest.raises(ModelFileError, match=f"^the part unet is quantized as {kind.lower()}"):
        tensors_of({"w": path}, "unet")
    with pytest.raises(ModelFileError, match=kind.lower()):
        refuse_kind(kind, "the model")


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"other": ("BF16", (1,))}, {}, "the file of w does not hold it"),
        ({"w": ("U32", (3, 8)), "w.scale": ("BF16", (3, 2))}, {}, "quantized in a way that only"),
        ({"w": ("U32", (3, 8)), "w.scale": ("BF16", (3, 2)), "w.bias": ("BF16", (3, 1))}, {}, "do not fit their scales"),
        ({"w": ("U32", (3, 8)), "w.scale": ("BF16", (4, 2)), "w.bias": ("BF16", (4, 2))}, {}, "do not fit their scales"),
        ({"w": ("U32", (3, 7)), "w.scale": ("BF16", (3, 2)), "w.bias": ("BF16", (3, 2))}, {}, "do not fit their scales"),
        ({"w": ("F32", (3, 8)), "w.scale": ("BF16", (3, 2)), "w.bias": ("BF16", (3, 2))}, {}, "do not fit their scales"),
        ({"w": ("U32", ()), "w.scale": ("BF16", ()), "w.bias": ("BF16", ())}, {}, "do not fit their scales"),
        *(
            ({"w": ("U32", (3, 8)), "w.scale": ("BF16", (3, 2)), "w.bias": ("BF16", (3, 2))}, {"group_size": size}, message)
            for size, message in (
                ("0", "is no number"),
                ("-1", "is no number"),
                ("9" * 9, "is no number"),
                ("48", "do not fit"),
            )
        ),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        tensors_of({"w": blob(tmp_path / "0", tensors, **metadata)}, "unet")


def layer(media_type: str, name: str) -> Layer:
    return Layer(media_type=media_type, digest=f"sha256:{'0' * 64}", size=1, name=name)


def test_a_model_of_tensors_that_does_not_draw_is_not_laid_out() -> None:
    layers = [layer(JSON, "config.json"), layer(TENSOR, "model.embed_tokens.weight")]
    assert laid_out(layers) == []


@pytest.mark.parametrize("name", ["weight", "unet/a/b"])
def test_a_tensor_without_a_part_is_refused(name: str) -> None:
    layers = [layer(JSON, "model_index.json"), layer(TENSOR, name)]
    with pytest.raises(ModelFileError, match="names no tensor of a part"):
        laid_out(layers)
