"""`format` of a request -> a grammar for the engine, or a FormatError; the finished text -> does it fit.

compile      the flow, and what is cached
beyond       regex, choice and grammar (gbnf)
dialect      any draft -> one 2020-12 document with local references (drafts, keywords, patterns)
satisfiable  what jsonschema-rs can prove of it
relax        what a grammar can't follow -> the same in other words (rewrite), or the nearest superset and a warning
repair       what llguidance refuses all the same
grammar      llguidance; portable is for engines without it
"""

from serow.constraints.compile import compile_format
from serow.constraints.constraint import Constraint

__all__ = ["Constraint", "compile_format"]
