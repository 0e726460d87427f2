"""`format` of a request -> a grammar for the engine, or a FormatError; the finished text -> does it fit.

dialect      any draft -> one 2020-12 document with local references
satisfiable  what can be proven of it (jsonschema-rs)
relax        what a grammar can't follow -> the same in other words, or the nearest superset and a warning
repair       what the grammar compiler refuses all the same
grammar      llguidance
"""

from serow.constraints.compile import compile_format
from serow.constraints.constraint import Constraint

__all__ = ["Constraint", "compile_format"]
