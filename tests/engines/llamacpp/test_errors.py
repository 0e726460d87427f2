"""What the engine says, in our words."""

import re

import pytest

from serow.engines.llamacpp.errors import explain_end, explain_load, refusal, shortage
from serow.engines.llamacpp.events import Fault
from serow.engines.llamacpp.report import LoadReport
from serow.errors import EngineDied, EngineError, FormatError, NotEnoughMemory, RequestError

LOGS = [
    (
        "E llama_model_load: error loading model: unknown model architecture: 'foo-3.5'\n",
        "the engine does not know the architecture foo-3.5",
    ),
    (
        "E llama_model_load: error loading model: unknown pre-tokenizer type: 'x'\n",
        "the engine does not know the model's tokenizer",
    ),
    (
        "E gguf_init_from_file: failed to open GGUF file '/srv/m.gguf' (No such file or directory)\n",
        "the model file is not a GGUF file",
    ),
    ("E alloc_tensor_range: failed to allocate CPU buffer of size 99999999999\n", "there is not enough memory for the model"),
    (
        "E ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory\n",
        "there is not enough memory for the model",
    ),
    ("E llama_prepare_model_devices: invalid value for main_gpu: 7\n", "there is no GPU with the number that main_gpu names"),
    (
        "E mtmd_init_from_file: error: mismatch between text model (n_embd = 1) and mmproj (n_embd = 2)\n",
        "the projector does not fit the model",
    ),
    ("error: invalid argument: --fit\n", "the llama-server executable is too old, it does not know --fit"),
    ("", "the engine ended with status 1 while it started"),
]


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(("log", "reason"), LOGS)
def test_a_load_that_failed_has_a_reason_without_paths(log: str, reason: str) -> None:
    assert explain_load(1, log) == f"could not load the model: {reason}"


# What an engine tells besides when it is to name its buffers; llama.cpp marks such lines, ik_llama.cpp doesn't.
CHATTER = (
    "0.00.224.750 I llama_model_loader: - kv   2:   general.name str = out of memory, lora adapter, invalid magic\n"
    "0.01.220.793 I print_info: vocab type            = BPE\n"
    "0.04.163.531 D llama_context: invalid device: none, device lost, CUDA error: out of memory\n"
)
CHATTER_OF_IK = "llm_load_print_meta: vocab type       = BPE\nllm_load_print_meta: n_vocab          = 151936\n"


@pytest.mark.req("RES-05", "DEV-04")
@pytest.mark.parametrize(("log", "reason"), LOGS)
@pytest.mark.parametrize("chatter", [CHATTER, CHATTER_OF_IK])
def test_what_an_engine_tells_besides_is_no_reason(log: str, reason: str, chatter: str) -> None:
    assert explain_load(1, chatter + log + chatter) == f"could not load the model: {reason}"
    too_little = shortage(chatter + log + chatter)
    assert isinstance(too_little, NotEnoughMemory) is ("not enough memory" in reason)


@pytest.mark.req("DEV-04")
def test_a_model_whose_own_words_tell_of_a_fault_does_not_make_one() -> None:
    report = LoadReport()
    report.feed(CHATTER.encode())
    assert not report.is_spent and not report.is_lost
    assert type(explain_end(-11, CHATTER)) is EngineDied


FAULTS = [
    (
        Fault(400, "request (9 tokens) exceeds …", "exceed_context_size_error", 9, 4),
        RequestError,
        "the prompt has 9 tokens, the context holds 4",
    ),
    (
        Fault(400, "Failed to initialize samplers: failed to parse grammar"),
        FormatError,
        "the engine does not accept the grammar of the format",
    ),
    (Fault(400, "Prompt contains invalid tokens"), RequestError, "the prompt holds token ids that the model does not have"),
    (Fault(400, "Failed to load image or audio file"), RequestError, "the engine can't read one of the images"),
    (Fault(400, "Field 'n_keep': Value must be between"), RequestError, "the engine does not accept the request"),
    (Fault(500, "vector::_M_range_check"), EngineError, "the engine failed to answer the request"),
    (Fault(503, "Loading model"), EngineError, "the engine failed to answer the request"),
]


@pytest.mark.req("RES-05")
@pytest.mark.parametrize(("fault", "kind", "sentence"), FAULTS)
def test_a_fault_of_the_engine_is_a_sentence_of_ours(fault: Fault, kind: type[Exception], sentence: str) -> None:
    error = refusal(fault)
    assert isinstance(error, kind)
    assert re.fullmatch(sentence, str(error))
