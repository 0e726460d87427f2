"""Ollama's streams: one JSON value on each line, the last one an error where an answer broke off."""

from serow.errors import SerowError
from serow.wire.json import encode_line

NDJSON = "application/x-ndjson"


class Lines:
    """What the streams of all of Ollama's routes share; each says by `feed` what a line is."""

    content_type = NDJSON
    has_pings = False

    def finish(self) -> bytes:
        """Nothing: the last record is an event's."""
        return b""

    def ping(self) -> bytes:
        """Nothing: clients know no such line."""
        return b""

    def fail(self, error: SerowError) -> bytes:
        """The line that ends an answer that broke off."""
        return encode_line({"error": str(error)})
