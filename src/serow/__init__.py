"""Serow: a local model server behind Ollama's API."""

__version__ = "0.1.0"
API_LEVEL = "0.33.0"  # of Ollama's API, as that program counts; clients ask for at least 0.6.4 or 0.13.4
