"""An engine that compiles in a moment: an sdist of a few lines, and a `serow` that builds it in the place of ik.

`python -m tests.engines.fake SDIST ARGS…` runs `serow ARGS…` so.
"""

import hashlib
import io
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serow.cli.main import main
from serow.engines.build import sources
from serow.engines.build.edit import Edit
from serow.engines.build.sources import Backend, Recipe
from serow.registries.package_index.distribution import Distribution

PROJECT, TOP = "fake-engine", "fake_engine-1.0"
FILENAME = f"{TOP}.tar.gz"
SUBTREE = f"{TOP}/vendor/engine"

CMAKE = """\
cmake_minimum_required(VERSION 3.14)
project(fake CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(SECRETS "$ENV{SEROW_API_KEY}$ENV{HF_TOKEN}$ENV{OTEL_EXPORTER_OTLP_HEADERS}$ENV{PIP_INDEX_URL}")
message("environment: [${SECRETS}] native: ${GGML_NATIVE}")
add_library(first STATIC first.cpp)
"""
PROGRAM = "add_executable(llama-server main.cpp)\ntarget_link_libraries(llama-server first)\n"
# Comes to a stop behind `first`: says so in one pipe, and waits for a word in the other.
GATE = """\
add_custom_command(
    OUTPUT ${CMAKE_BINARY_DIR}/gate.cpp
    COMMAND sh ${CMAKE_SOURCE_DIR}/gate.sh
    COMMAND ${CMAKE_COMMAND} -E touch ${CMAKE_BINARY_DIR}/gate.cpp
    DEPENDS first)
add_executable(llama-server main.cpp ${CMAKE_BINARY_DIR}/gate.cpp)
target_link_libraries(llama-server first)
"""
GATE_SH = 'test -e "$GATE/open" && exit 0\necho reached > "$GATE/reached"\nread word < "$GATE/word"\n'
MAIN = """\
#include <cstdio>
const char *first();
int main() { std::printf("version: %s\\n", first()); }
"""
FIRST = 'const char *first() { return "AS IT CAME"; }\n'


@dataclass(frozen=True)
class Fake:
    """An sdist on the disk and the recipe for it."""

    path: Path
    recipe: Recipe


def recipe_of(path: Path) -> Recipe:
    """The recipe for a fake sdist, pinned as it lies there."""
    data = path.read_bytes()
    return Recipe(
        sdist=Distribution(PROJECT, path.name, len(data), hashlib.sha256(data).hexdigest()),
        subtree=SUBTREE,
        options=("CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=ON"),
        backends={Backend.CUDA: "GGML_CUDA", Backend.METAL: "GGML_METAL"},
        edits=(Edit("first.cpp", "AS IT CAME", "edited"),),
        disk=1_000_000,
    )


def make_sdist(directory: Path, build: str = PROGRAM, **files: str | bytes) -> Fake:
    """Write the sdist; `build` ends its CMakeLists.txt, `files` add to its files or replace them (main_cpp="…")."""
    contents: dict[str, str | bytes] = {
        "main.cpp": MAIN,
        "first.cpp": FIRST,
        "gate.sh": GATE_SH,
        "CMakeLists.txt": CMAKE + build,
    }
    contents |= {name.replace("_", "."): text for name, text in files.items()}
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILENAME
    write_tar(path, {f"{SUBTREE}/{name}": text for name, text in contents.items()} | {f"{TOP}/setup.py": "raise SystemExit(1)"})
    return Fake(path, recipe_of(path))


def write_tar(path: Path, files: Mapping[str, str | bytes]) -> None:
    """A gzipped tar of regular files."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    sources.RECIPES["ik"] = recipe_of(Path(sys.argv[1]))
    main(sys.argv[2:])
