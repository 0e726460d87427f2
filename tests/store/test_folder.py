from pathlib import Path

import pytest

from serow.errors import ModelFileError
from serow.store.folder import check_path, choose, files_under

INDEX, CONFIG = "model_index.json", "unet/config.json"
UNET = "unet/diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("weights", "taken"),
    [
        ([f"{UNET}.safetensors"], [f"{UNET}.safetensors"]),
        ([f"{UNET}.safetensors", f"{UNET}.bin"], [f"{UNET}.safetensors"]),
        ([f"{UNET}.safetensors", f"{UNET}.fp16.safetensors", f"{UNET}.fp16.bin"], [f"{UNET}.safetensors"]),
        ([f"{UNET}.fp16.safetensors", f"{UNET}.non_ema.safetensors"], [f"{UNET}.fp16.safetensors"]),
        ([f"{UNET}.non_ema.safetensors", f"{UNET}.safetensors"], [f"{UNET}.safetensors"]),
        ([f"{UNET}.non_ema.safetensors"], [f"{UNET}.non_ema.safetensors"]),
        ([f"{UNET}.bf16.safetensors"], [f"{UNET}.bf16.safetensors"]),
        ([f"{UNET}.bf16.safetensors", f"{UNET}.fp16.safetensors"], [f"{UNET}.fp16.safetensors"]),
        ([f"{UNET}.int8.safetensors", f"{UNET}.bf16.safetensors"], [f"{UNET}.bf16.safetensors"]),
        (
            [f"{UNET}-00001-of-00002.safetensors", f"{UNET}-00002-of-00002.safetensors", f"{UNET}.safetensors.index.json"],
            [f"{UNET}-00001-of-00002.safetensors", f"{UNET}-00002-of-00002.safetensors"],
        ),
        (
            [f"{UNET}-00001-of-00002.safetensors", f"{UNET}.fp16-00001-of-00001.safetensors"],
            [f"{UNET}.fp16-00001-of-00001.safetensors"],
        ),
        (
            [f"{UNET}-00001-of-00002.fp16.safetensors", f"{UNET}-00002-of-00002.fp16.safetensors", "unet/model.onnx"],
            [f"{UNET}-00001-of-00002.fp16.safetensors", f"{UNET}-00002-of-00002.fp16.safetensors"],
        ),
        (["unet/my.own.safetensors"], ["unet/my.own.safetensors"]),
        ([f"{UNET}.safetensors", "unet/pytorch_lora_weights.safetensors"], [f"{UNET}.safetensors"]),
        (["unet/重み.safetensors"], ["unet/重み.safetensors"]),
    ],
)
def test_one_copy_of_the_weights_is_taken(weights: list[str], taken: list[str]) -> None:
    chosen = choose([INDEX, CONFIG, *weights])
    assert chosen.kept == tuple(sorted([INDEX, CONFIG, *taken]))
    files = [path for path in weights if path.endswith((".safetensors", ".bin"))]
    assert bool(chosen.left_out) == (len(files) > len(taken))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([f"{UNET}.bin"], r"^unet/diffusion_pytorch_model\.bin could hold code: weights must be safetensors"),
        ([f"{UNET}-00001-of-00003.safetensors"], "^the part unet has 1 of the 3 files of its weights"),
        ([f"{UNET}-00001-of-00003.safetensors", f"{UNET}.bin"], "^the part unet has 1 of the 3 files"),
        (["unet/model.CKPT"], "could hold code"),
    ],
)
def test_weights_that_are_pickles_only_or_not_whole_are_refused(weights: list[str], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        choose([INDEX, CONFIG, *weights])


def test_what_lies_beside_the_parts_is_left_out_and_weights_among_it_are_told() -> None:
    beside = [
        "README.md",
        "LICENSE.txt",
        "cover.png",
        "unet/code.py",
        ".cache/x.json",
        "用法.txt",
        "v1-5.ckpt",
        "style.safetensors",
    ]
    chosen = choose([INDEX, CONFIG, f"{UNET}.safetensors", *beside])
    assert chosen.kept == (INDEX, CONFIG, f"{UNET}.safetensors")
    assert [said.split()[0] for said in chosen.left_out] == ["style.safetensors", "v1-5.ckpt"]


def test_a_folder_that_the_index_does_not_name_is_left_out_whatever_it_holds() -> None:
    beside = ["safety_checker/config.json", "safety_checker/pytorch_model.bin", "vae_1_0/model.safetensors"]
    chosen = choose([INDEX, CONFIG, f"{UNET}.safetensors", *beside], ["unet"])
    assert chosen.kept == (INDEX, CONFIG, f"{UNET}.safetensors")
    assert chosen.left_out == tuple(
        f"the folder {part} is left out: model_index.json names no such part" for part in ("safety_checker", "vae_1_0")
    )


@pytest.mark.parametrize(
    "path",
    (
        *(
            "../x.json",
            "/x.json",
            "a/../x.json",
            "a//x.json",
            "",
            ".hidden.json",
            "a\\x.json",
            "a/b/c/d/x.json",
            "x.json/",
            "a\n.json",
        ),
        *("unet/diffusion_pytorch_model.bin", "model.ckpt", "pipeline.py", "x.pkl", "x", "\u202e.json", "a\0.json"),
    ),
)
def test_a_file_that_leaves_the_folder_or_could_hold_code_is_refused(path: str) -> None:
    with pytest.raises(ModelFileError):
        check_path(path)


def test_links_to_parts_are_followed_and_a_circle_ends(tmp_path: Path) -> None:
    (tmp_path / "else" / "unet").mkdir(parents=True)
    (tmp_path / "else" / "unet" / "config.json").touch()
    folder = tmp_path / "模型"
    folder.mkdir()
    (folder / "unet").symlink_to(tmp_path / "else" / "unet")
    (folder / "again").symlink_to(folder)
    (folder / INDEX).touch()
    assert set(files_under(folder)) == {INDEX, CONFIG}
