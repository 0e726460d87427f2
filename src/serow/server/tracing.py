"""Whether requests are traced: with the extra `serow[otel]`, when a setting or OpenTelemetry's own variable asks for it."""

import os
from typing import TYPE_CHECKING

from serow.settings import SettingError, Settings

if TYPE_CHECKING:
    from serow.server.spans import Traces

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_INSTALL = "in the folder of Serow's sources: pip install '.[otel]'"


def open_traces(settings: Settings) -> "Traces | None":
    """None when nobody asks for traces. Raises SettingError when SEROW_OTEL does and the extra is not installed."""
    if not settings.otel and not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from serow.server.spans import Traces, exporting_provider
    except ModuleNotFoundError:
        if settings.otel:  # the other variables may be meant for other programs
            raise SettingError("SEROW_OTEL needs packages that are not installed", hint=_INSTALL) from None
        return None
    return Traces(exporting_provider())
