"""Models on disk, in Ollama's layout: blobs/sha256-…, manifests/host/namespace/name/tag."""
