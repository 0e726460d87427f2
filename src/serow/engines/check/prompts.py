"""Texts that every engine has to go on with in the same way: short and long, prose and code, ASCII and not; and a picture."""

import io

PROSE = (
    "The lighthouse stood on the last rock before the open sea, and in winter the keeper saw nobody for months. He wrote down "
    "the weather every morning, wound the clock every evening, and in between he read the same eleven books again and again. "
    "On the ninth of February a boat came that he did not expect. It carried a woman with a wooden box, a letter from the "
    "harbour master, and a dog that would not stop barking at the lamp. The letter said that the light was to be changed: no "
    "more oil, no more wicks, but a wire from the mainland and a switch that anybody could turn. The keeper read it twice. "
    "Then he put on his coat, climbed the stairs, and asked her to come with him and see how the old lamp was lit for once. "
    "She put the box down on the table, tied the dog to a chair, and followed him up one hundred and forty steps. At the top "
    "the wind was so loud that they had to shout. "
)

CODE = '''\
def merge(left: list[int], right: list[int]) -> list[int]:
    """Merge two sorted lists into one sorted list."""
    merged, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            merged.append(left[i])
            i += 1
        else:
'''

PROMPTS = (  # as many as an engine has slots, with the prose
    "The capital of France is",
    CODE,
    "Übersetze ins Englische: „Über den Wolken muß die Freiheit wohl grenzenlos sein.“\n日本語では、",
    "The days of the week are: Monday, Tuesday,",
    "1 + 1 = 2\n2 + 2 = 4\n3 + 3 = 6\n4 + 4 =",
    "Dear Sir or Madam,\n\nthank you for your letter of the 3rd of May. " + PROSE[:300],
    "Question: Why is the sky blue? 🌤️\nAnswer:",
)

FOLLOW_UP = " and"  # so short that what went wrong right before it shows


def picture() -> bytes:
    """A dark spot on bright ground, 256 pixels wide, as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, "PNG")
    return file.getvalue()
