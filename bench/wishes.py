"""What the clients of `soak` ask for: everything that people do, and what no server should take."""

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ZOO = Path(__file__).parents[1] / "tests" / "models" / "zoo"
ENDLESS = {"num_predict": -1, "logit_bias": {"2": -1e9}, "seed": 1}  # zoo-think can't say that it is done
HOSTILE_SHARE = 0.1  # of all requests


@dataclass(frozen=True)
class Wish:
    """A request: what is sent, and after how many seconds its client leaves, if it does."""

    kind: str
    body: dict[str, Any] | bytes
    path: str = "/api/generate"
    leaves_after: float | None = None
    fits: Callable[[dict[str, Any]], bool] = lambda _: True  # whether the whole answer is a right one


BAD: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"model": 5}',
    b'{"model": "no-such-model", "prompt": "x"}',
    b'{"model": "../../etc/passwd", "prompt": "x"}',
    b'{"model": "zoo-think", "prompt": "x", "options": {"top_k": "many"}}',
    b'{"model": "zoo-think", "prompt": "x", "options": {"num_ctx": -5}}',
    b'{"model": "zoo-think", "prompt": "x", "keep_alive": "30"}',
    b'{"model": "zoo-think", "prompt": "x", "format": {"type": 5}}',
    b'{"model": "zoo-think", "prompt": "x", "format": {"regex": "((((("}}',
    b'{"model": "zoo-think", "prompt": "x", "template": "{{ if }}"}',
    b'{"model": "zoo-think", "prompt": "x", "context": [99999999]}',
    b'{"model": "zoo-think", "prompt": "x", "images": ["aGVsbG8="]}',
    b'{"model": "zoo-vision", "prompt": "x", "images": ["http://127.0.0.1/x.png"]}',
    b'{"model": "zoo-vision", "prompt": "x", "think": true}',
    b'{"model": "zoo-think", "prompt": "x", "raw": true, "system": "y"}',
)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}}, "required": ["n", "ok"]}
QUESTIONS = ("What is 3 + 4?", "Hello", "What is 13 + 24?", "Tell me a story", "1 2 3 4")


def _holds_json(record: dict[str, Any]) -> bool:
    return bool(record["done_reason"] == "length") or {"n", "ok"} <= json.loads(record["response"]).keys()


class Crowd:
    """Makes up requests; the same seed makes the same ones."""

    def __init__(self, seed: int, *, has_pictures: bool) -> None:
        self._random = random.Random(seed)
        self._picture = base64.b64encode(next((ZOO / "lm" / "vision_images").glob("*.png")).read_bytes()).decode()
        kinds = {
            self.ask: 8,
            self.leave: 5,
            self.bad: 3,
            self.constrain: 3,
            self.see: 2,
            self.unload: 1,
            self.reload: 1,
            self.look: 2,
        }
        self._kinds = kinds | ({self.draw: 1} if has_pictures else {})

    def is_hostile(self) -> bool:
        """Whether the next request is one of those that nobody would write."""
        return self._random.random() < HOSTILE_SHARE

    def wish(self) -> Wish:
        """The next request."""
        (kind,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
        return kind()

    def _body(self, **fields: Any) -> dict[str, Any]:
        options = {"num_predict": self._random.choice((1, 20, 60)), **fields.pop("options", {})}
        prompt, stream = self._random.choice(QUESTIONS), self._random.random() < 0.6
        return {"model": "zoo-think", "prompt": prompt, "stream": stream, "options": options, **fields}

    def ask(self) -> Wish:
        """A question, thinking or not."""
        return Wish("ask", self._body(think=self._random.choice((True, False)), logprobs=self._random.random() < 0.2))

    def leave(self) -> Wish:
        """A question whose client goes away: in the queue, while loading, reading the prompt, writing."""
        prompt = self._random.choice(("Hello", "word " * 900))
        seconds = self._random.choice((0.0, 0.01, 0.1, 0.5, 2.0))
        return Wish("leave", self._body(prompt=prompt, options=ENDLESS), leaves_after=seconds)

    def bad(self) -> Wish:
        """What no server should take."""
        return Wish("bad", self._random.choice(BAD))

    def constrain(self) -> Wish:
        """An answer in a format."""
        return Wish("format", self._body(format=SCHEMA, stream=False, options={"num_predict": 200}), fits=_holds_json)

    def see(self) -> Wish:
        """A question about a picture."""
        return Wish("see", self._body(model="zoo-vision", images=[self._picture]))

    def draw(self) -> Wish:
        """A picture, sometimes left alone."""
        body = {"model": "zoo-shapes", "prompt": "a red circle", "width": 64, "height": 64, "steps": 6, "stream": False}
        return Wish("draw", body, leaves_after=self._random.choice((None, None, 0.3)))

    def unload(self) -> Wish:
        """A model sent away."""
        return Wish("unload", {"model": self._random.choice(("zoo-think", "zoo-vision")), "keep_alive": 0})

    def reload(self) -> Wish:
        """A context that may need another load."""
        return Wish("reload", self._body(options={"num_ctx": self._random.choice((512, 1024, 2048))}))

    def look(self) -> Wish:
        """A route that only tells."""
        return Wish("show", {"model": "zoo-think"}, path="/api/show")
