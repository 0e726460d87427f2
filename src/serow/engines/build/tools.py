"""CMake and ninja: the system's where they are new enough, else those of their wheels, pinned by size and SHA-256.

And the compiler of a wheel, for machines without one.
"""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from serow.engines.build.edit import BuildError
from serow.registries.package_index.distribution import Distribution

_DEADLINE = 30  # seconds for a program to say its version


@dataclass(frozen=True)
class Tool:
    """A program, what it is called on a PATH, and the wheels that carry it: platform, then the rest of their names."""

    name: str
    names: tuple[str, ...]
    oldest: tuple[int, ...]
    version: str  # of the wheels
    subtree: str  # of a wheel
    executable: str  # in the subtree
    wheels: Mapping[str, tuple[str, int, str]]

    def installed(self) -> tuple[str, str] | None:
        """Path and version of the system's own, None when there is none or it is too old."""
        for name in self.names:
            path = shutil.which(name)
            version = _version(path) if path else ""
            if path and version and tuple(int(part) for part in version.split(".")) >= self.oldest:
                return path, version
        return None

    def wheel(self) -> Distribution:
        """The wheel for this machine; raises BuildError where there is none."""
        if platform_tag() not in self.wheels:
            oldest = ".".join(str(part) for part in self.oldest)
            raise BuildError(
                f"{self.name} is not here", hint=f"install {self.name} {oldest} or newer with the system's packages"
            )
        tags, size, sha256 = self.wheels[platform_tag()]
        return Distribution(self.name, f"{self.name}-{self.version}-py3-none-{tags}.whl", size, sha256)


def platform_tag() -> str:
    """This machine as the tables below name it: "linux-x86_64", "musl-aarch64", "macos", "windows-amd64"."""
    machine = platform.machine().lower()
    if sys.platform == "linux":
        libc = "linux" if platform.libc_ver()[0] == "glibc" else "musl"
        return f"{libc}-{machine}"
    return {"darwin": "macos", "win32": f"windows-{machine}"}.get(sys.platform, sys.platform)


def _version(path: str) -> str:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_DEADLINE, check=False).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    found = re.search(r"\d+(\.\d+)+", told)
    return found[0] if found else ""


CMAKE = Tool(
    name="cmake",
    names=("cmake", "cmake3"),
    oldest=(3, 21),  # what ROCm needs; the rest is content with 3.14
    version="4.1.3",
    subtree="cmake/data",
    executable="bin/cmake",
    wheels={
        "linux-x86_64": (
            "manylinux2014_x86_64.manylinux_2_17_x86_64",
            29_690_899,
            "81f11b72bc59cbe547d9f283487ef0519bf68176edffcdfa1a4dc5a52f292369",
        ),
        "linux-aarch64": (
            "manylinux2014_aarch64.manylinux_2_17_aarch64",
            30_381_441,
            "3893eb9c20d8a8bac3d951bbef9a4ce9d5495cd35a08b4e08d76215f5ead5897",
        ),
        "musl-x86_64": (
            "musllinux_1_2_x86_64",
            43_357_408,
            "6966746b25d1e9c8d32c731452e220e84331b5133544f710b21bd228a93812ca",
        ),
        "musl-aarch64": (
            "musllinux_1_2_aarch64",
            41_751_469,
            "e3782d5f82e8960290e50747b1fb5ff8396363a656ad5716a3aedc77334ca94f",
        ),
        "macos": (
            "macosx_10_10_universal2",
            49_246_088,
            "3b6b25ce8fecc768881b36a1dfbca0013adac10a299c73e24cf4cbb99e4c37d6",
        ),
        "windows-amd64": (
            "win_amd64",
            37_545_974,
            "fd5a2ea9a38c6109036d8c912a7db4df2de241cfbc00b7424ae246494387da80",
        ),
        "windows-arm64": (
            "win_arm64",
            36_337_597,
            "79bd8f92a3385cc6641949b0274cd10ee9a4f45a2c13840121b68b2e90b5af3a",
        ),
    },
)
NINJA = Tool(
    name="ninja",
    names=("ninja", "ninja-build"),
    oldest=(1, 8),
    version="1.13.2",
    subtree="ninja-1.13.2.data/scripts",
    executable="ninja",
    wheels={
        "linux-x86_64": (
            "manylinux2014_x86_64.manylinux_2_17_x86_64",
            183_365,
            "65a24341b5ac09fcadcc37082660be40a94174e51a937fabf6e2cae26225fa2c",
        ),
        "linux-aarch64": (
            "manylinux2014_aarch64.manylinux_2_17_aarch64",
            177_180,
            "d775a5e43e9088f507a6250d57fcf5678eb31268c545feb5064ffeee33735622",
        ),
        "musl-x86_64": (
            "musllinux_1_2_x86_64",
            544_460,
            "915bd482c4be41c75120fd67a22e0bb3f0fbb3bbc5f95b89787deadd59e27ef2",
        ),
        "musl-aarch64": (
            "musllinux_1_2_aarch64",
            525_392,
            "0e083700470c02ca154a855ae6d692d03564f5064cae52e113896f9ccc078418",
        ),
        "macos": (
            "macosx_10_9_universal2",
            306_611,
            "fd82e26c0706ad4ab88e5fdd26f3fab0a987a90f810160f6c322e752c6af298b",
        ),
        "windows-amd64": (
            "win_amd64",
            311_798,
            "1293f4078278b70d0ee4b6cc8f3a9e030656c9b2f59909970343c4fe76070118",
        ),
        "windows-arm64": (
            "win_arm64",
            290_620,
            "1db9852e528efa7702f5123969f86678663e46d57ff28ab13f5fd84d64a85fb1",
        ),
    },
)
TOOLS = (CMAKE, NINJA)
ZIG = Tool(  # never the system's own: what it takes and how it speaks changes with every version
    name="ziglang",
    names=(),
    oldest=(0, 17, 1),
    version="0.17.1",
    subtree="ziglang",
    executable="zig",
    wheels={
        machine: wheel
        for machines, wheel in (
            (
                ("linux-x86_64", "musl-x86_64"),
                (
                    "manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64",
                    101_083_562,
                    "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
                ),
            ),
            (
                ("linux-aarch64", "musl-aarch64"),
                (
                    "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
                    98_063_064,
                    "b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e",
                ),
            ),
        )
        for machine in machines
    },
)
