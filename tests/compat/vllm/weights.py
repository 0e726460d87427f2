"""Prints the path of SmolLM2's GGUF, for the script that writes it as safetensors."""

from serow.store.store import Store
from tests.conftest import CACHE, pulled

if __name__ == "__main__":
    pulled("smollm2:135m")
    print(Store(CACHE).resolve("smollm2:135m").weights)
