"""Everything that can go wrong, and the HTTP status it goes out with.

SerowError                    500
  RequestError                400  the request's fault
    InvalidModelName          400
    Incapable                 400  the model can't do what is asked of it
    PictureError              400  a picture that can't be read, or is too large
    TemplateError             400  a template that does not parse, fails or runs too long
      MessagesRefused         400  a chat template that does not accept the messages
    FormatError               400  a `format` that is no schema, or can't be satisfied
    PromptTooLong             400  the prompt does not fit the context, and may not be cut
    ModelFileError            400  a GGUF, Modelfile or digest that is broken
    LimitExceeded             400  work that takes more time or memory than a request may cost
  Unauthorized                401  no key, or a wrong one
  Forbidden                   403  a foreign Host or Origin; the body stays empty
  MissingScope                403  a key that is not for this
  NotFound                    404
    ModelNotFound             404
  MethodNotAllowed            405
  TooLarge                    413
    HeaderTooLarge            431
  UnsupportedEncoding         415  a body that is packed in a way we don't unpack
  EngineError                 500  the engine's fault
    EngineDied                500  its process is gone
      OutOfMemory             500  for want of memory
    LoadError                 500  it could not load the model
    BuildError                500  it could not be built on this machine (`engines.edit`)
    EngineUnreachable         502  one on another machine does not answer, or breaks off
    NotEnoughMemory           500
  PullError                   500  a download that failed or did not match its digest
    RegistryError             502  the registry is wrong, or away
      Unreachable             502  it does not answer
      NotAtRegistry           404  it has no model or blob of that name
      RegistryRefused         403  it refuses us, or it may not be asked
    Offline                   503  nothing outside may be asked (SEROW_OFFLINE)
  StoreError                  500  the model store can't be read or written: a full disk, no permission
  Unavailable                 503  queue full, or shutting down
    EngineBusy                503  an engine on another machine takes no more now

Handlers raise; `server.responses` renders. The text is a sentence without a path, an address or the engine's JSON;
`hint` says what to do next and is shown to people, never sent where clients compare the text. `param` is the field at fault
(`messages[1].role`) and `code` the fault's name in OpenAI's API, for the dialects that have a place for them.
"""


class SerowError(Exception):
    """Base of every error we raise on purpose."""

    status = 500
    code = ""

    def __init__(self, message: str, *, hint: str = "", param: str = "", code: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.param = param
        self.code = code or self.code


class RequestError(SerowError):
    """The request can't be served as it is."""

    status = 400


class InvalidModelName(RequestError):
    """A model name that does not parse."""

    def __init__(self, message: str = "invalid model name") -> None:
        super().__init__(
            message, hint="a name is MODEL or MODEL:TAG, of letters, digits, '.', '_' and '-'; before it HOST/NAMESPACE/"
        )


class Incapable(RequestError):
    """A model can't do what is asked of it. `what` completes "does not support …"."""

    def __init__(self, model: str, what: str) -> None:
        super().__init__(f'"{model}" does not support {what}', param="model", code="invalid_value")


class PictureError(RequestError):
    """A picture that can't be read, or is too large."""

    code = "invalid_value"


class TemplateError(RequestError):
    """A template that does not parse, fails while it runs or exceeds its budget."""


class MessagesRefused(TemplateError):
    """A chat template does not accept the messages."""


class FormatError(RequestError):
    """A `format` that is not a schema or can't be satisfied."""


class PromptTooLong(RequestError):
    """A prompt that does not fit the context, where it may not be cut. Both lengths in tokens."""

    code = "context_length_exceeded"

    def __init__(self, num_tokens: int, num_ctx: int, *, what: str = "prompt", is_least: bool = False, param: str = "") -> None:
        count = f"at least {num_tokens}" if is_least else str(num_tokens)
        super().__init__(
            f"the {what} has {count} tokens, the context holds {num_ctx}: shorten it or raise num_ctx", param=param
        )
        self.num_tokens = num_tokens
        self.num_ctx = num_ctx


class ModelFileError(RequestError):
    """A model file, Modelfile or digest that is broken or unsupported."""


class LimitExceeded(RequestError):
    """Work on something of the request's took more than it may. `reason` completes "it …"; callers say what "it" is."""

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(f"the work on this request {reason}", hint=hint)
        self.reason = reason


class Forbidden(SerowError):
    """A foreign Host or Origin."""

    status = 403


class Unauthorized(SerowError):
    """No key where one is needed, or a wrong one."""

    status = 401
    code = "invalid_api_key"


class MissingScope(SerowError):
    """The key is valid, what was asked is not among its scopes."""

    status = 403


class NotFound(SerowError):
    """Something named does not exist."""

    status = 404


class ModelNotFound(NotFound):
    """No model of that name in the store."""

    code = "model_not_found"

    def __init__(self, name: str, *, quote: str = "'") -> None:
        super().__init__(f"model {quote}{name}{quote} not found", hint=f"pull it first: serow pull {name}")
        self.name = name


class MethodNotAllowed(SerowError):
    """A method that a path does not have."""

    status = 405


class Conflict(SerowError):
    """What is asked for does not fit what is there now."""

    status = 409


class TooLarge(SerowError):
    """A body above its limit."""

    status = 413


class HeaderTooLarge(TooLarge):
    """Request line and headers above their limit."""

    status = 431


class UnsupportedEncoding(SerowError):
    """A Content-Encoding that is not among ours."""

    status = 415


class EngineError(SerowError):
    """The engine failed."""


class EngineDied(EngineError):
    """The engine's process ended while it was needed."""


class OutOfMemory(EngineDied):
    """It ended for want of memory, in the middle of its work; `asked` bytes were wanted last, 0 where it does not say."""

    def __init__(self, message: str, *, asked: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.asked = asked


class LoadError(EngineError):
    """The engine could not load the model."""


class EngineUnreachable(EngineError):
    """An engine on another machine does not answer, or breaks off."""

    status = 502


class NotEnoughMemory(EngineError):
    """Neither free memory nor evicting idle models suffices."""


class DeviceGone(NotEnoughMemory):
    """A device that was to hold a part of a model is not there any more."""


class PullError(SerowError):
    """A download failed, or what arrived is not what was promised."""


class RegistryError(PullError):
    """A registry can't be reached, or answers what it must not."""

    status = 502


class Unreachable(RegistryError):
    """A registry does not answer."""


class NotAtRegistry(RegistryError):
    """A registry does not have what it was asked for."""

    status = 404


class RegistryRefused(RegistryError):
    """A registry refuses us, or is one that may not be asked."""

    status = 403


class Offline(PullError):
    """Something outside would have to be asked, and nothing outside may be."""

    status = 503


class StoreError(SerowError):
    """The disk below the model store failed: full, read-only, not ours."""


class Unavailable(SerowError):
    """No place in the queue, or the server is shutting down."""

    status = 503
    retry_after = 1  # seconds, for the Retry-After header


class EngineBusy(Unavailable):
    """An engine on another machine takes no more now; `retry_after` as it says, where it says a number of seconds."""

    def __init__(self, message: str, retry_after: str | None = None) -> None:
        super().__init__(message)
        if retry_after is not None and retry_after.isascii() and retry_after.isdecimal():
            self.retry_after = min(int(retry_after[:6]), 3600)
