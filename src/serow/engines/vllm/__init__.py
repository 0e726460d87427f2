"""A vLLM on this machine that we start and end: models made of safetensors folders run there (REM-07).

`environment.py` finds it, `arguments.py` and `launcher.py` start it as a child, `runner.py` is the life of it, `errors.py` says
why it did not start. What is spoken is `engines/remote`'s.
"""
