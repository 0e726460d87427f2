"""Where models come from: registries, Hugging Face, the package index, caches on this disk."""
