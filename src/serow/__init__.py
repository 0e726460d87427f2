"""Serow: a local model server behind Ollama's API."""

__version__ = "0.1.0"
