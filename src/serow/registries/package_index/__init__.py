"""Where models come from: a table of pinned sources, and the package index that carries them."""
