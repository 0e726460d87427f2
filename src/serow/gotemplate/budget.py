"""What one rendering may cost, so that no template can keep the server busy or fill its memory.

Steps are counted, not seconds: a template that passes once passes always. A step is a node, an argument, an iteration or a
printed value; texts that functions read or make cost one step for every 128 characters. All of it takes well under a second.
"""

from serow.errors import TemplateError

MAX_STEPS = 50_000  # of one prompt
MAX_TEXT = 1 << 24  # characters of the rendered text
MAX_DEPTH = 64  # of lists, pipelines and template calls inside each other, and of printed data
MAX_SOURCE = 1 << 20  # characters of a template
MAX_TOKENS = 20_000  # of a template
_CHARACTERS_PER_STEP = 128


class StepsExceeded(TemplateError):
    """The budget is used up."""


class Budget:
    """Counts the steps of one or more renderings down; raises StepsExceeded when they are used up."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self._left = steps

    def step(self, count: int = 1) -> None:
        """Spend steps."""
        self._left -= count
        if self._left < 0:
            raise StepsExceeded("template: took too many steps")

    def text(self, characters: int) -> None:
        """Spend what reading or making a text costs; call it before the text is made where its length is known."""
        self.step(max(characters, 0) // _CHARACTERS_PER_STEP)


def too_large() -> TemplateError:
    """The error of a rendered text beyond MAX_TEXT."""
    return TemplateError(f"template: made a text larger than {MAX_TEXT} characters")
