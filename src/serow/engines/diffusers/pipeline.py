"""A diffusers pipeline that is asked for pictures. Imported in the child only: torch takes seconds.

Seen in diffusers 0.42: it checks little, cuts prompts in silence, and skips the rest of a picture when interrupted; so sizes
and prompts are checked here, and a drawing is abandoned by an exception of our own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from serow.engines.base import ImageRequest
from serow.engines.diffusers import sizes
from serow.engines.diffusers.abilities import Forms
from serow.engines.diffusers.decoding import Decoding, check_flat, give_back
from serow.engines.diffusers.encoding import Encoding, plain_texts, unread_weights
from serow.engines.diffusers.guidance import guidance_arguments, meaning
from serow.engines.diffusers.installed import NEEDED
from serow.engines.diffusers.leaving import LARGE
from serow.engines.diffusers.memory import hold_to_free_memory, is_out_of_memory, shortage
from serow.engines.diffusers.pieces import in_pieces
from serow.engines.diffusers.png import described, png
from serow.engines.diffusers.preview import Projection, latents_of
from serow.engines.diffusers.prompts import cut_prompts
from serow.engines.diffusers.schedulers import Schedulers
from serow.engines.diffusers.signature import parameters
from serow.engines.diffusers.together import Together, Unlike
from serow.engines.diffusers.working import check_room
from serow.errors import LoadError, NotEnoughMemory, RequestError

OnStep = Callable[[int, int, bytes | None], None]  # steps done, steps in all, a preview
MOST_TOGETHER = 4  # pictures of a batch
LARGEST_BATCH = 1 << 18  # pixels of all its pictures: at so many it saves a tenth of the time, less beyond
_BLACKENED = "the model's own safety checker blackened the picture"


@dataclass(frozen=True)
class _Plan:
    """How the pictures of a request are drawn, one call of `pipe` for each seed."""

    pipe: Any
    canvas: sizes.Canvas
    arguments: Mapping[str, Any]


class Pipeline:
    """A text-to-image pipeline in memory. One call at a time: its scheduler holds state.

    `name` stands in the text of the pictures, "" for none in them; `adapters` are those that are loaded, with their weights.
    """

    def __init__(self, pipe: Any, device: str, *, name: str = "", adapters: Mapping[str, float] | None = None) -> None:
        if not parameters(pipe).keys() >= NEEDED:
            raise LoadError(f"{type(pipe).__name__} is not a pipeline that draws from text step by step")
        self._device = device
        self._name = name
        self._free = 0
        self._pipe = pipe
        self._encodings: list[Encoding] = []
        self._forms = Forms(pipe)
        self._schedulers = Schedulers(pipe)
        self._adapters = dict(adapters or {})
        self._applied = dict(self._adapters)
        vae = getattr(pipe, "vae", None)
        self._together = Together()
        self._decoding = Decoding(vae) if hasattr(vae, "decode") else None
        self._projection = Projection(vae) if hasattr(vae, "encode") else None

    def draw(self, request: ImageRequest, on_step: OnStep) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
        """Draw; returns the PNG bytes of each picture, and warnings. What `on_step` raises ends it between two steps.

        Raises RequestError and NotEnoughMemory before the first step is told, BrokenPicture.
        """
        warnings: list[str] = []
        plan = self._plan(request, warnings)
        self._weigh(request)
        if self._decoding is not None:
            self._decoding.warnings = warnings
        self._free = hold_to_free_memory(self._device)
        self._check_room(plan, 1)
        progress = _Progress(len(request.seeds), on_step)
        progress.tell(0, _expected_steps(plan))
        pictures: list[Image.Image] = []
        with in_pieces() if _is_large(plan) else nullcontext():
            for begin in range(0, len(request.seeds), MOST_TOGETHER):
                pictures += self._draw_group(plan, request, begin, progress, warnings)
        drawn = zip(pictures, request.seeds, strict=True)
        images = tuple(png(picture, self._described(plan, request, seed, picture.size)) for picture, seed in drawn)
        return images, tuple(dict.fromkeys(warnings))

    def explain_shortage(self, error: BaseException) -> str:
        """A sentence with the numbers when an exception says that memory did not suffice, else ""."""
        if not is_out_of_memory(error):
            return ""
        return f"the picture needs {shortage(error, self._free)}: ask for a smaller one"

    def part_of(self, error: BaseException) -> str:
        """The part that an exception came from, and its class; "" when it came from none."""
        parts = {id(part): name for name, part in getattr(self._pipe, "components", {}).items() if part is not None}
        found = [parts[key] for key in _objects(error) if key in parts]
        return f"{found[-1]} ({type(self._pipe.components[found[-1]]).__name__})" if found else ""

    def _plan(self, request: ImageRequest, warnings: list[str]) -> _Plan:
        pipe = self._forms.of(request)
        if hasattr(pipe, "encode_prompt") and not isinstance(pipe.encode_prompt, Encoding):
            self._encodings.append(Encoding(pipe))
        self._schedulers.put(pipe, request.scheduler, is_from_noise=not request.images)
        canvas = sizes.canvas(pipe, request, warnings)
        arguments = {
            **sizes.arguments(pipe, canvas, request, warnings),
            **guidance_arguments(pipe, request, warnings),
            "prompt": request.prompt,
        }
        warnings += unread_weights(pipe, arguments)
        warnings += cut_prompts(pipe, plain_texts(pipe, arguments))
        return _Plan(pipe, canvas, arguments)

    def _draw_group(
        self, plan: _Plan, request: ImageRequest, begin: int, progress: "_Progress", warnings: list[str]
    ) -> list[Image.Image]:
        """Some of the pictures: as a batch, or one after the other where that changes them, brings nothing or lacks memory."""
        seeds = request.seeds[begin : begin + MOST_TOGETHER]
        if len(seeds) > 1 and self._may_batch(plan, request, len(seeds)):
            try:
                return self._draw(plan, request, seeds, progress.after(begin), warnings)
            except Unlike:
                pass
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                give_back()
        return [
            picture
            for number, seed in enumerate(seeds, begin)
            for picture in self._draw(plan, request, (seed,), progress.after(number), warnings)
        ]

    def _may_batch(self, plan: _Plan, request: ImageRequest, count: int) -> bool:
        width, height = plan.canvas.size or sizes.own(plan.pipe)
        is_small = 0 < count * width * height <= LARGEST_BATCH
        if request.images or not is_small or not self._together.may(plan.pipe, (plan.canvas.size, count)):
            return False
        try:
            self._check_room(plan, count)
        except NotEnoughMemory:
            return False
        return True

    def _check_room(self, plan: _Plan, count: int) -> None:
        """Raise NotEnoughMemory where so many pictures at once would take too much."""
        looked_at = [] if "strength" in parameters(plan.pipe) else [each.size for each in plan.canvas.pictures]
        check_room(plan.pipe, plan.canvas.size, count * _batch(plan), self._free, sizes.grid(plan.pipe), looked_at)

    def _draw(
        self, plan: _Plan, request: ImageRequest, seeds: Sequence[int], progress: "_Progress", warnings: list[str]
    ) -> list[Image.Image]:
        """The picture of each seed, in one call of the pipeline."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]  # the same numbers on every device
        arguments = {**plan.arguments, "callback_on_step_end": self._callback(plan, request, progress, len(seeds))}
        with torch.inference_mode():
            if len(seeds) == 1:
                result = plan.pipe(**arguments, generator=generators[0])
            else:
                result = self._together.draw(plan.pipe, (plan.canvas.size, len(seeds)), arguments, generators)
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            warnings.append(_BLACKENED)
        hidden = getattr(result, "nsfw_content_detected", None) or [False] * len(seeds)
        drawn = zip(result.images, hidden, strict=True)
        return [picture if is_hidden else _finished(plan, picture, warnings) for picture, is_hidden in drawn]

    def _callback(self, plan: _Plan, request: ImageRequest, progress: "_Progress", count: int) -> Any:
        def on_step_end(pipe: Any, step: int, _: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            total = pipe.num_timesteps
            is_shown = request.preview and (step + 1) % request.preview == 0 and step + 1 < total
            preview = self._preview(plan, kwargs["latents"]) if is_shown else None
            for number in range(count):
                progress.tell(step * count + number + 1, total, preview if number + 1 == count else None)
            return kwargs

        return on_step_end

    def _preview(self, plan: _Plan, latents: torch.Tensor) -> bytes | None:
        if self._projection is None:
            return None
        size = plan.canvas.size or sizes.own(plan.pipe)
        cells = latents_of(plan.pipe, latents, size)
        return None if cells is None else self._projection.jpeg(cells)

    def _described(self, plan: _Plan, request: ImageRequest, seed: int, size: tuple[int, int]) -> str:
        return described(request, plan.arguments, seed, size, self._name) if self._name else ""

    def _weigh(self, request: ImageRequest) -> None:
        """Give the adapters the weights of this request, the model's own where it names none; raises RequestError."""
        wanted = {**self._adapters, **dict(request.adapters)}
        if unknown := sorted(wanted.keys() - self._adapters.keys()):
            known = f"it has {', '.join(self._adapters)}" if self._adapters else "it has none"
            raise RequestError(f'the model has no adapter "{unknown[0][:64]}": {known}', param="options.adapters")
        if wanted != self._applied:
            self._pipe.set_adapters(list(wanted), list(wanted.values()))
            self._applied = wanted
            for encoding in self._encodings:
                encoding.forget()


def _is_large(plan: _Plan) -> bool:
    """Whether an operation may take so long that it has to be left in its middle; also where the size is not known."""
    width, height = plan.canvas.size or sizes.own(plan.pipe)
    return not 0 < width * height <= LARGE


def _finished(plan: _Plan, picture: Image.Image, warnings: list[str]) -> Image.Image:
    """What was drawn, of the size that was asked for; into a mask over what it began with. Raises BrokenPicture."""
    check_flat(picture)
    picture = sizes.as_asked(plan.canvas, plan.arguments, picture, warnings)
    if plan.canvas.mask is not None and plan.canvas.pictures[0].size == picture.size:
        return Image.composite(picture, plan.canvas.pictures[0], plan.canvas.mask)
    return picture


class _Progress:
    """Steps of all pictures of a request; each number is told once, though some are drawn again."""

    def __init__(self, count: int, on_step: OnStep) -> None:
        self._count = count
        self._on_step = on_step
        self._drawn = 0  # pictures
        self._told = -1

    def after(self, drawn: int) -> "_Progress":
        """The same, when so many of the pictures are finished."""
        self._drawn = drawn
        return self

    def tell(self, completed: int, total: int, preview: bytes | None = None) -> None:
        """So many steps of those pictures that are drawn now; `total` of one of them."""
        completed += self._drawn * total
        if completed > self._told or preview is not None:
            self._told = max(self._told, completed)
            self._on_step(self._told, self._count * total, preview)


def _batch(plan: _Plan) -> int:
    """How many pictures are computed at once: two where guidance compares one with and one without."""
    known = meaning(plan.pipe)
    scale = plan.arguments.get(known.scale, known.default)
    return 2 if known.kind == "classic" and (scale is None or scale > known.threshold) else 1


def _expected_steps(plan: _Plan) -> int:
    """How many steps a picture will take; the pipeline's own count, told with each of them, may differ."""
    names = parameters(plan.pipe)
    steps = int(plan.arguments.get("num_inference_steps") or names["num_inference_steps"].default)
    if plan.canvas.pictures and "strength" in names:
        steps = min(steps, int(steps * plan.arguments.get("strength", names["strength"].default)))
    order = int(
        getattr(getattr(plan.pipe, "scheduler", None), "order", 1)
    )  # Heun's method computes each step twice, the last once
    return steps * order - (order - 1)


def _objects(error: BaseException) -> Iterator[int]:
    """The objects whose methods an exception went through, outermost first."""
    trace = error.__traceback__
    while trace is not None:
        yield id(trace.tb_frame.f_locals.get("self"))
        trace = trace.tb_next
