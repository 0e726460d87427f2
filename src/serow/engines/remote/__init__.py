"""Engines that speak OpenAI's HTTP: vLLM and its like, behind the same TextRunner as llama.cpp.

`vocabulary.py` turns texts into ids and back, `request.py` and `events.py` are the two directions of POST /v1/completions,
`completions.py` is the TextRunner, `runner.py` the one whose engine is at an address; `health.py` reads what engines tell of
themselves.
"""
