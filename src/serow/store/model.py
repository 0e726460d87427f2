"""A model as the store resolves it: files, template, parameters, what it can do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from serow.store.guesser import Guesser
from serow.store.layers import Layers
from serow.store.name import Name
from serow.store.picture_defaults import Default, Hints

Capability = Literal["completion", "vision", "tools", "thinking", "insert", "image", "embedding"]


class ModelDetails(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is, in one line. `context_length` and `embedding_length` in /api/tags only."""

    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str
    context_length: int | UnsetType = UNSET
    embedding_length: int | UnsetType = UNSET


@dataclass(frozen=True)
class Model:
    """What a name in the store stands for. Everything a request needs to know without opening the weights again."""

    name: Name
    digest: str  # hex SHA-256 of the manifest
    size: int  # bytes of all layers
    modified_at: datetime
    weights: Path  # the GGUF; for image models and those of safetensors their directory; for remote ones the tokenizer.json
    tokenizer: Path | None = None  # tokenizer.json, of a model whose engine is not llama.cpp
    projector: Path | None = None
    projector_size: int = 0  # bytes
    adapters: tuple[Path, ...] = ()  # LoRA files over the weights
    draft: Guesser | None = None  # a smaller model that guesses ahead
    template: str = ""  # Go text/template of the TEMPLATE layer, "" when there is none
    chat_template: str = ""  # the GGUF's own Jinja template, "" when there is none
    template_variables: dict[str, str] = field(default_factory=dict)  # for it, where no engine of ours renders it
    renderer: str = ""  # of the peer, which builds prompts without a template; ours has none
    parser: str = ""  # of the peer: what the model writes
    system: str = ""
    license: tuple[str, ...] = ()
    messages: tuple[dict[str, str], ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)  # PARAMETER lines, typed as options
    parent_model: str = ""
    details: ModelDetails | None = None
    capabilities: tuple[Capability, ...] = ("completion",)
    architecture: str = ""
    context_length: int = 0  # tokens the model was trained for
    embedding_length: int = 0
    declared_context_length: int = 0  # what `info` says of the two, where it says it: it is listed, the file's is run with
    declared_embedding_length: int = 0
    normalizes_vectors: bool = False  # of a model that embeds: whether they are of length 1 by its own
    vocab_size: int = 0
    fim_tokens: tuple[int, int, int] | None = None  # ids of prefix, suffix, middle (GEN-10)
    beginning: tuple[int, ...] = ()  # id of the token that a text begins or, without such, ends with
    control_tokens: frozenset[int] = frozenset()  # ids whose text belongs to no answer
    whole_tokens: frozenset[int] = frozenset()  # ids of tokens that are found by their whole text
    requires: str = ""  # the version of Ollama that the model asks for, shown and not compared
    remote_model: str = ""  # what a model of another machine is called there
    remote_host: str = ""
    linked: tuple[str, ...] = ()  # digests of blobs that are a user's files, too
    refusal: str = ""  # why it can't be run here, "" for one that can
    picture_defaults: Mapping[str, Default] = field(default_factory=dict)  # of one that draws
    picture_hints: Hints | None = None  # what the settings of its parts say
    kv_bytes: int = 0  # bytes of key-value cache for one token of context (f16)
    layers: Layers = field(default_factory=Layers)  # what each takes; none of one that draws

    @property
    def can_be_guessed_for(self) -> bool:
        """Whether it names a smaller model whose tokens are its own."""
        return self.draft is not None and not self.draft.refusal and self.num_guessed != 0

    @property
    def num_guessed(self) -> int | None:
        """How many tokens its Modelfile lets a draft guess at once; None where it says nothing."""
        number = self.parameters.get("draft_num_predict", self.parameters.get("num_draft"))
        return None if number is None else max(0, int(number))

    @property
    def is_remote(self) -> bool:
        """Whether an engine at an address runs it, and nothing here."""
        return bool(self.remote_host)

    @property
    def is_vllm(self) -> bool:
        """Whether its weights are a folder of safetensors, which a vLLM of ours runs."""
        return self.tokenizer is not None and not self.is_remote

    @property
    def is_image(self) -> bool:
        """Whether it draws pictures."""
        return "image" in self.capabilities
