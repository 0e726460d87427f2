import base64
import io

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def png() -> str:
    """A tiny picture, as a client sends it."""
    out = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
