"""Go's text/template in Python, bounded: what a model's TEMPLATE is written in (GEN-08).

    >>> parse("{{ .System }}|{{ .Prompt }}").render({"System": "Be brief.", "Prompt": "Hi"})
    'Be brief.|Hi'

Sources: the documentation of Go's text/template, fmt and encoding/json; Ollama's recorded answers, the goldens template-*.
"""

from serow.gotemplate.template import Template, parse, thinking_tags
from serow.gotemplate.values import JsonMap, Slice, Struct

__all__ = ["JsonMap", "Slice", "Struct", "Template", "parse", "thinking_tags"]
