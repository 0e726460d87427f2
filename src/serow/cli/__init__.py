"""The command line: `serow serve`, `serow run`, and the rest, over the official `ollama` client.

Answers go to stdout, everything else to stderr. Modules import what is heavy inside their functions, so that `--help` is quick.
"""
