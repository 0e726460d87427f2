"""A model at an engine's address, as the store keeps it: where it is, its tokenizer and its chat template, no weights (REM-01).

The files are those of a Hugging Face repository, each a layer of the media type that Ollama has for such files.
"""

import math
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from serow.errors import ModelFileError, RequestError
from serow.store import manifest as media
from serow.store.blobs import Blobs
from serow.store.capabilities import of_chat_template
from serow.store.engine_address import addresses_of, check_name, is_remote
from serow.store.manifest import Config, Layer, Manifest, decode
from serow.store.model import Capability

TOKENIZER = "tokenizer.json"
_SETTINGS = "tokenizer_config.json"
_TEMPLATE = "chat_template.jinja"
_CONFIG = "config.json"
FILES = (TOKENIZER, _SETTINGS, _TEMPLATE, _CONFIG)
_LARGEST_NUMBER = 1 << 40
LARGEST = 64 << 20  # bytes of one of them; 33 MB is the largest known
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
_HINT = "TOKENIZER ./folder in the Modelfile names the folder that the engine was started with"


class _Token(Struct):
    id: int = -1
    content: str = ""
    special: bool = False


class _Vocabulary(Struct, frozen=True):
    vocab: dict[str, int] | list[Any] = {}


class _Tokenizer(Struct):
    added_tokens: list[_Token] = []
    model: _Vocabulary = _Vocabulary()


class RemoteFiles:
    """The files of one model by their names; raises ModelFileError for those that are broken."""

    def __init__(self, layers: Mapping[str, Layer], blobs: Blobs) -> None:
        self._layers = layers
        self._blobs = blobs

    @classmethod
    def of(cls, manifest: Manifest, blobs: Blobs) -> "RemoteFiles":
        """Those of a model in the store."""
        return cls({layer.name: layer for layer in manifest.all(media.JSON, media.FOLDER_FILE)}, blobs)

    def fields(self) -> dict[str, Any]:
        """What a Model has of them. Blocks: a large vocabulary takes 50 ms."""
        if TOKENIZER not in self._layers:
            raise ModelFileError(f"the model has no {TOKENIZER}", hint=_HINT)
        found = decode(self._read(TOKENIZER), _Tokenizer, TOKENIZER, math.inf)  # merges are lists, and not read
        settings = self._settings(_SETTINGS)
        special = {name: text for name in _SPECIAL if (text := _text(settings.get(name)))}
        ids = {token.content: token.id for token in found.added_tokens}
        beginning = special.get("bos_token", special.get("eos_token", ""))
        template = self._template(settings)
        return {
            "tokenizer": self._blobs.path(self._layers[TOKENIZER].digest),
            "chat_template": template,
            "template_variables": special,
            "vocab_size": 1 + max((len(found.model.vocab) - 1, *ids.values())),
            "beginning": (ids[beginning],) if beginning in ids else (),
            "control_tokens": frozenset(token.id for token in found.added_tokens if token.special),
            "context_length": self._number("max_position_embeddings"),
        }

    def config(self, remote_host: str, remote_model: str) -> Config:
        """What a new model at an address says it is."""
        return Config(
            remote_host=remote_host,
            remote_model=remote_model,
            capabilities=list(self.capabilities()),
            context_length=self.fields()["context_length"] or None,
        )

    def capabilities(self) -> tuple[Capability, ...]:
        """What the chat template shows."""
        return tuple(dict.fromkeys((*of_chat_template(self._template(self._settings(_SETTINGS))), "completion")))

    def kv_bytes(self) -> int:
        """Bytes of keys and values for one token of context with two bytes a number; 0 where the config does not tell."""
        blocks, heads, width = (self._number(name) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
        head = self._number("head_dim") or (width // heads if heads else 0)
        return 2 * 2 * blocks * (self._number("num_key_value_heads") or heads) * head

    def _template(self, settings: Mapping[str, Any]) -> str:
        if _TEMPLATE in self._layers:
            return self._read(_TEMPLATE).decode("utf-8", "replace")
        found = settings.get("chat_template")
        if isinstance(found, list):  # by their names; tools have one of their own at times
            by_name = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
            found = by_name.get("tool_use") or by_name.get("default")
        return found if isinstance(found, str) else ""

    def _number(self, name: str) -> int:
        """A count of config.json, 0 where there is none that can be."""
        config = self._settings(_CONFIG)
        inner = config.get("text_config")
        places = (config, inner if isinstance(inner, dict) else {})
        found = (place.get(name) for place in places)
        return next((number for number in found if isinstance(number, int) and 0 < number < _LARGEST_NUMBER), 0)

    def _settings(self, name: str) -> dict[str, Any]:
        return decode(self._read(name), dict[str, Any], name) if name in self._layers else {}

    def _read(self, name: str) -> bytes:
        return self._blobs.read(self._layers[name].digest, LARGEST)


def check(remote_host: str, remote_model: str, files: Mapping[str, str]) -> None:
    """Refuse what is no model at an address; raises RequestError."""
    if not is_remote(remote_host):
        raise RequestError('"remote_host" must be the address of an engine', hint="vllm://HOST:PORT, or vllms:// with TLS")
    addresses_of(remote_host)
    check_name(remote_model)
    if TOKENIZER not in files:
        raise RequestError(f"a model at an address needs its {TOKENIZER} here: prompts are made and counted here", hint=_HINT)
    for name in files:
        if name not in FILES:
            raise RequestError(f'"{name[:100]}" is no file of a tokenizer', hint=f"files: {', '.join(FILES)}")


def _text(token: Any) -> str:
    """A special token as tokenizer_config.json has it: a text, or an object around one."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""
