"""Engines on other machines: vLLM and what speaks its HTTP, behind the same TextRunner as a local one.

`vocabulary.py` turns texts into ids and back, `request.py` and
`events.py` are the two directions of POST /v1/completions, `runner.py` is the life of it.
"""
