"""Commands on the models of a running server."""

from pathlib import Path

import pytest

from serow.cli.models import processor
from tests.gguf_files import split
from tests.transformers_folder import folder

from .conftest import Serow

QUESTION = "What is 37 + 85?"


def test_list_shows_every_model_in_columns(serow: Serow) -> None:
    code, out, err = serow("list")
    header, *rows = out.splitlines()
    assert (code, err) == (0, "")
    assert header.split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert {"zoo-think:latest", "zoo-vision:latest", "smollm2:135m"} <= {row.split()[0] for row in rows}


def test_list_takes_the_beginning_of_a_name(serow: Serow) -> None:
    assert [row.split()[0] for row in serow("ls", "ZOO-V").out.splitlines()[1:]] == ["zoo-vision:latest"]


def test_ps_shows_a_loaded_model_and_stop_unloads_it(serow: Serow) -> None:
    serow("run", "zoo-think", QUESTION, "--think=false", "--keepalive", "1h")
    header, *rows = serow("ps", "zoo-think").out.splitlines()
    assert header.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert [row.split()[0] for row in rows] == ["zoo-think:latest"]
    assert rows[0].endswith(("59 minutes from now", "About an hour from now"))
    assert serow("stop", "zoo-think") == (0, "", "")
    assert serow("ps", "zoo-think").out.splitlines() == [header.rstrip()] or "zoo-think" not in serow("ps", "zoo-think").out


@pytest.mark.parametrize(
    "size, size_vram, text",
    [(10, 0, "100% CPU"), (10, 10, "100% GPU"), (10, 4, "60%/40% CPU/GPU"), (10, 11, "Unknown"), (0, 0, "100% CPU")],
)
def test_where_a_model_lies_is_told_in_percent(size: int, size_vram: int, text: str) -> None:
    assert processor(size, size_vram) == text


def test_show_describes_a_model(serow: Serow) -> None:
    out = serow("show", "zoo-think").out
    assert out.startswith("  Model\n    architecture")
    assert "  Capabilities\n" in out
    assert "thinking" in out


@pytest.mark.parametrize(
    "flag, text", [("--modelfile", "FROM "), ("--template", "<|im_start|>"), ("--system", "\n"), ("--license", "\n")]
)
def test_show_prints_one_part_alone(serow: Serow, flag: str, text: str) -> None:
    code, out, _ = serow("show", "zoo-think", flag)
    assert code == 0
    assert text in out
    assert "  Model\n" not in out


def test_a_model_built_of_a_shown_modelfile_chats_as_before(serow: Serow, home: Path) -> None:
    (home / "Modelfile").write_text(serow("show", "zoo-think", "--modelfile").out)
    assert serow("create", "test/rebuilt").code == 0
    assert serow("show", "test/rebuilt", "--template").out == serow("show", "zoo-think", "--template").out


def test_copy_and_remove(serow: Serow) -> None:
    assert serow("cp", "zoo-think", "test/copied") == (0, "copied 'zoo-think' to 'test/copied'\n", "")
    assert serow("rm", "test/copied") == (0, "deleted 'test/copied'\n", "")
    assert "copied" not in serow("list").out


def test_rm_goes_on_after_a_model_that_is_not_there(serow: Serow) -> None:
    serow("cp", "zoo-think", "test/one")
    serow("cp", "zoo-think", "test/two")
    code, out, err = serow("rm", "test/one", "nope", "test/two")
    assert (code, out) == (1, "deleted 'test/one'\ndeleted 'test/two'\n")
    assert err == "error: model 'nope' not found\nhint: see what is there: serow list\n"


@pytest.mark.parametrize("args", [("show", "nope"), ("stop", "nope"), ("rm", "nope"), ("cp", "nope", "x")])
def test_a_model_that_is_not_there_is_an_error_with_a_hint(serow: Serow, args: tuple[str, ...]) -> None:
    code, out, err = serow(*args)
    assert (code, out) == (1, "")
    assert err.startswith("error: model ")
    assert err.splitlines()[-1] == "hint: see what is there: serow list"


@pytest.mark.parametrize("command", ["pull", "run"])
def test_a_model_that_is_not_here_is_not_asked_for_outside_when_offline(serow: Serow, command: str) -> None:
    code, _, err = serow(command, "nope", "Hi")[:3] if command == "run" else serow(command, "nope")
    assert code == 1
    assert "error: offline: registry.ollama.ai would have to be asked" in err.splitlines()


def test_create_uploads_what_the_modelfile_names_relative_to_it(serow: Serow, home: Path, zoo: Path) -> None:
    (home / "weights").mkdir()
    (home / "weights" / "model.gguf").symlink_to(zoo / "zoo-think.gguf")
    (home / "weights" / "Modelfile").write_text("FROM model.gguf\nSYSTEM Be brief.\nPARAMETER temperature 0\n")
    code, _, err = serow("create", "test/made", "-f", "weights/Modelfile")
    assert (code, err.splitlines()[-1]) == (0, "success")
    assert serow("show", "test/made", "--system").out == "Be brief.\n"
    serow("rm", "test/made")


def test_create_takes_a_model_and_its_projector(serow: Serow, home: Path, zoo: Path) -> None:
    (home / "Modelfile").write_text(f"FROM {zoo}/zoo-vision.gguf\nFROM {zoo}/zoo-vision-mmproj.gguf\n")
    assert serow("create", "test/sees").code == 0
    assert "vision" in serow("show", "test/sees").out
    serow("rm", "test/sees")


def test_create_tells_what_is_kept_and_not_used(serow: Serow, home: Path) -> None:
    (home / "Modelfile").write_text("FROM zoo-think\nRENDERER none-such\nPARSER none-such\n")
    code, _, err = serow("create", "test/kept")
    assert code == 0
    assert err.endswith(
        "success\nwarning: renderer: none-such is kept for Ollama; here templates make the prompts\n"
        "warning: parser: none-such is kept for Ollama and not known here\n"
    )
    assert serow("rm", "test/kept").code == 0


def test_create_says_what_to_do_about_what_the_server_refuses(serow: Serow, home: Path) -> None:
    header = b'{"input_blocks.0.0.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (home / "unet.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    (home / "Modelfile").write_text("FROM ./unet.safetensors\n")
    code, _, err = serow("create", "test/alone")
    assert code == 1 and "error: unet.safetensors holds a UNet2DConditionModel alone: it needs a base\n" in err
    assert "hint: two lines: FROM the folder or the model with its other parts, then FROM ./unet.safetensors\n" in err


def test_create_refuses_a_name_before_it_reads_and_sends_files(serow: Serow, home: Path, zoo: Path) -> None:
    (home / "Modelfile").write_text(f"FROM {zoo / 'zoo-think.gguf'}\n")
    code, out, err = serow("create", "bad name")
    assert (code, out) == (1, "") and err.startswith("error: invalid model name\nhint: a name is MODEL or MODEL:TAG")


@pytest.mark.parametrize("args", [("pull", "../x"), ("cp", "zoo-think", "a b"), ("show", "a:b:c"), ("stop", "a:b:c")])
def test_a_name_that_can_not_be_one_is_refused_with_what_a_name_is(serow: Serow, args: tuple[str, ...]) -> None:
    code, _, err = serow(*args)
    assert code == 1 and "\nhint: a name is MODEL or MODEL:TAG" in err


def test_create_takes_a_modelfile_that_windows_wrote(serow: Serow, home: Path) -> None:
    (home / "Modelfile").write_bytes("\ufeffFROM zoo-think\r\nSYSTEM Grüße\r\n".encode("utf-16-le"))
    assert serow("create", "test/utf16").code == 0
    assert "Grüße" in serow("show", "test/utf16", "--modelfile").out
    assert serow("rm", "test/utf16").code == 0


@pytest.mark.parametrize("source", [".", "./", "weights", "weights/"])
def test_create_takes_a_folder_with_one_model_in_it(serow: Serow, home: Path, zoo: Path, source: str) -> None:
    folder = home if source.startswith(".") else home / "weights"
    folder.mkdir(exist_ok=True)
    for name in ("zoo-vision.gguf", "zoo-vision-mmproj.gguf"):
        (folder / name).symlink_to(zoo / name)
    (home / "Modelfile").write_text(f"FROM {source}\n")
    assert serow("create", "test/folder").err.endswith("success\n")
    assert "vision" in serow("show", "test/folder").out
    assert serow("rm", "test/folder").code == 0


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("FROM ~nobody-at-all/x", "there is no home of ~nobody-at-all"),
        ("FROM zoo-think\nADAPTER ~nobody-at-all/x", "there is no home of ~nobody-at-all"),
        ("FROM zoo-think\nADAPTER ./two", "is a directory"),
        ("FROM ./two", "holds 2 GGUF files"),
        ("FROM ./empty", "is not a diffusers pipeline"),
    ],
)
def test_create_says_what_is_wrong_with_a_path(serow: Serow, home: Path, line: str, error: str) -> None:
    for each in ("two", "empty"):
        (home / each).mkdir()
    for name in ("a.gguf", "b.gguf"):
        (home / "two" / name).touch()
    (home / "Modelfile").write_text(f"{line}\n")
    code, _, err = serow("create", "test/bad")
    assert (code, error in err) == (1, True), err


def test_a_folder_that_has_a_models_name_and_no_model_is_none(serow: Serow, home: Path) -> None:
    (home / "zoo-think").mkdir()
    (home / "Modelfile").write_text("FROM zoo-think\n")
    assert serow("create", "test/named").code == 0
    assert serow("rm", "test/named").code == 0


def test_create_starts_from_a_model_that_is_there(serow: Serow, home: Path) -> None:
    (home / "Modelfile").write_text("FROM zoo-think\nSYSTEM Be brief.\n")
    assert serow("create", "test/based").code == 0
    serow("rm", "test/based")


@pytest.mark.req("LIB-29")
@pytest.mark.parametrize(("source", "options"), [("parts/zoo-think-00002-of-00002.gguf", ()), ("./parts", ("--merge",))])
def test_a_split_model_is_named_by_one_of_its_parts_and_says_what_the_whole_says(
    serow: Serow, home: Path, zoo: Path, source: str, options: tuple[str, ...]
) -> None:
    (home / "parts").mkdir()
    split(zoo / "zoo-think.gguf", home / "parts", 2)
    (home / "Modelfile").write_text(f"FROM {source}\nPARAMETER temperature 0\nPARAMETER num_predict 20\n")
    assert serow("create", "test/parts", *options).code == 0
    (home / "Modelfile").write_text("FROM zoo-think\nPARAMETER temperature 0\nPARAMETER num_predict 20\n")
    assert serow("create", "test/whole").code == 0
    assert serow("run", "test/parts", "Count to 5").out == serow("run", "test/whole", "Count to 5").out != ""
    assert serow("rm", "test/parts", "test/whole").code == 0


@pytest.mark.req("LIB-32")
def test_a_folder_of_transformers_is_named_by_from_and_says_what_its_gguf_says(serow: Serow, home: Path, zoo: Path) -> None:
    folder(zoo / "zoo-think.gguf", home / "folder")
    (home / "folder" / "README.md").write_text("about it")
    for name, source in (("test/folder", "./folder"), ("test/whole", "zoo-think")):
        (home / "Modelfile").write_text(f"FROM {source}\nPARAMETER temperature 0\nPARAMETER num_predict 20\n")
        assert serow("create", name).code == 0
    assert serow("run", "test/folder", "Count to 5").out == serow("run", "test/whole", "Count to 5").out != ""
    assert serow("rm", "test/folder", "test/whole").code == 0


@pytest.mark.req("LIB-29")
def test_a_part_that_is_missing_is_named(serow: Serow, home: Path, zoo: Path) -> None:
    split(zoo / "zoo-think.gguf", home, 2)[1].unlink()
    (home / "Modelfile").write_text("FROM ./zoo-think-00001-of-00002.gguf\n")
    assert "error: there is no file zoo-think-00002-of-00002.gguf" in serow("create", "test/parts").err


@pytest.mark.req("LIB-29")
@pytest.mark.parametrize("draft", ["zoo-think", "./small.gguf"])
def test_create_takes_a_draft_by_its_path_or_its_name(serow: Serow, home: Path, zoo: Path, draft: str) -> None:
    (home / "small.gguf").write_bytes((zoo / "zoo-think.gguf").read_bytes())
    (home / "Modelfile").write_text(f"FROM zoo-think\nDRAFT none\nDRAFT {draft}\n")
    assert serow("create", "test/drafting").code == 0
    assert "\nDRAFT /" in serow("show", "test/drafting", "--modelfile").out
    assert serow("rm", "test/drafting").code == 0


@pytest.mark.parametrize(
    "text, error",
    [
        ("FROM ./nope.gguf", "error: there is no file nope.gguf"),
        ("FROM zoo-think\nFROM smollm2:135m", "error: FROM lines name a model, or files of one"),
        ("FROM .", "error: the folder is not a diffusers pipeline"),
        ("FROM zoo-think\nDRAFT nope.gguf", "error: there is no file nope.gguf"),
        ("FROM zoo-think\nDRAFT nope", "error: model 'nope:latest' not found"),
        ("NONSENSE x", "error: line 1: command must be one of"),
    ],
)
def test_create_says_what_is_wrong_with_a_modelfile(serow: Serow, home: Path, text: str, error: str) -> None:
    (home / "Modelfile").write_text(text)
    code, _, err = serow("create", "test/broken")
    assert code == 1
    assert err.startswith(error)


_NO_MODELFILE = "error: can't read Modelfile: no such file or directory\nhint: name the Modelfile with -f\n"


def test_create_without_a_modelfile_says_so(serow: Serow) -> None:
    assert serow("create", "test/none") == (1, "", _NO_MODELFILE)
