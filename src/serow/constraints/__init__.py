"""`format` of a request -> a grammar for the engine, or a FormatError; the finished text -> does it fit.

service      what the server calls: elsewhere, within limits, remembered
compile      the flow
wrapper      what is no schema though it is an object
beyond       regex, choice and grammar (gbnf)
dialect      any draft -> one 2020-12 document with local references (drafts, keywords, patterns)
satisfiable  what jsonschema-rs can prove of it
relax        what a grammar can't follow -> the same in other words (rewrite), or the nearest superset and a warning
repair       what llguidance refuses all the same
tighten      what lets a text end, and closes objects, beyond what the schema says
grammar      llguidance; portable is for engines without it
validation   the finished text
calls        tools: a call held to one of them
"""

from serow.constraints.calls import Shape, one_of
from serow.constraints.compile import compile_format
from serow.constraints.constraint import Constraint
from serow.constraints.service import Constraints, Verdict

__all__ = ["Constraint", "Constraints", "Shape", "Verdict", "compile_format", "one_of"]
