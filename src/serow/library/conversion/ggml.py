"""llama.cpp's functions that pack numbers, in the library that the engine's wheel brings."""

import ctypes
from pathlib import Path

from serow.library.conversion.gguf_file import Refusal

F32, F16, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16 = 0, 1, 6, 7, 8, 12, 13, 14, 30
BLOCKS = {F32: (1, 4), F16: (1, 2), BF16: (1, 2), Q5_0: (32, 22), Q5_1: (32, 24), Q8_0: (32, 34)}  # numbers, bytes
BLOCKS |= {Q4_K: (256, 144), Q5_K: (256, 176), Q6_K: (256, 210)}


class Ggml:
    """llama.cpp's functions, in the library that the engine's wheel brings."""

    def __init__(self) -> None:
        import xllamacpp

        path = next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"), None) or next(
            Path(xllamacpp.__file__).parent.glob("xllamacpp*.pyd"), None
        )
        if path is None:
            raise Refusal("quantizing needs the engine of the wheel")
        try:
            self._library = ctypes.CDLL(str(path))
            self._quantize = self._library.ggml_quantize_chunk
            self._rows = {F16: self._library.ggml_fp16_to_fp32_row, BF16: self._library.ggml_bf16_to_fp32_row}
            self._halve = self._library.ggml_fp32_to_fp16_row
        except (OSError, AttributeError):
            raise Refusal("the engine of the wheel can't quantize") from None
        self._quantize.restype = ctypes.c_size_t
        self._quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
        for function in (*self._rows.values(), self._halve):
            function.restype, function.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]

    def convert(self, data: bytes, source: int, target: int, rows: int, columns: int) -> bytes:
        """Rows of numbers, packed in another way."""
        count = rows * columns
        numbers = ctypes.create_string_buffer(data, 4 * count) if source == F32 else ctypes.create_string_buffer(4 * count)
        if source != F32:
            self._rows[source](data, numbers, count)
        if target == F32:
            return numbers.raw[: 4 * count]
        per, size = BLOCKS[target]
        packed = ctypes.create_string_buffer(count // per * size)
        if target == F16:
            self._halve(numbers, packed, count)
        else:
            self._quantize(target, numbers, packed, 0, rows, columns, None)
        return packed.raw
