"""What we change in the sources of ik_llama.cpp before they are built.

Its server is older than llama.cpp's and was made for one user: with several slots it loses answers or aborts, and some of
its events lack what ours are made of. Each edit says why it is there. The check of an engine is what proves them.
"""

from pathlib import Path

from serow.engines.build.edit import Edit

_GGML = "ggml/src/ggml.c"
_SERVER = "examples/server/server-context.cpp"
_QUEUE = "examples/server/server-queue.cpp"
_ATTENTION = "ggml/src/iqk/fa/iqk_fa_templates.h"
_FLASH = "ggml/src/iqk/iqk_flash_attn.cpp"


def _skip(num_queries: str) -> str:
    """Go on to the next block of keys when nobody may see this one."""
    return (
        f"            if (is_masked({num_queries}, k_step, stride_m, mr, 0)) {{\n"
        "                kh.next_block(k_step); vh.next_block(k_step); mr += k_step*sizeof(ggml_half);\n"
        "                continue;\n"
        "            }\n"
    )


_EVENTS = (
    # Events say which token it is and how many there are, as llama.cpp's do.
    Edit(
        _SERVER,
        '        {"multimodal", false}\n    };\n    slot.update_chat_msg',
        '        {"tokens", json::array({tkn.tok})},\n        {"tokens_predicted", slot.n_decoded}\n'
        "    };\n    slot.update_chat_msg",
    ),
    # Log-probabilities in llama.cpp's shape.
    Edit(
        _SERVER,
        "= probs_vector_to_json(ctx, res->probs_output)",
        "= completion_token_output::probs_vector_to_json(res->probs_output, slot.params.post_sampling_probs)",
        count=2,
    ),
    # What a slot does and how many tokens it holds, by llama.cpp's names.
    Edit(
        _SERVER,
        '            slot_data["state"] = slot.state;\n',
        '            slot_data["state"] = slot.state;\n'
        '            slot_data["is_processing"] = slot.is_processing();\n'
        '            slot_data["n_prompt_tokens"] = slot.cache_tokens.size();\n',
    ),
    # A long prompt would be read in silence, as if the engine hung.
    Edit(
        _SERVER,
        "                if (slot.command == SLOT_COMMAND_LOAD_PROMPT) {\n                    if (slot.do_checkpoint) {\n",
        "                if (slot.command == SLOT_COMMAND_LOAD_PROMPT) {\n"
        "                    if (slot.task && slot.params.stream) {\n"
        "                        auto progress = std::make_unique<server_task_result_cmpl_partial>();\n"
        "                        progress->id = slot.id_task;\n"
        "                        progress->id_multi = slot.id_multi;\n"
        "                        progress->index = slot.task->index;\n"
        "                        progress->final_result = progress->error = progress->stop = false;\n"
        "                        progress->stream = true;\n"
        '                        progress->data = {{"prompt_progress", {{"processed", slot.n_prompt_tokens_processed}}}};\n'
        "                        queue_results.send(std::move(progress));\n"
        "                    }\n"
        "                    if (slot.do_checkpoint) {\n",
    ),
)

_CANCELLING = (
    # A client that leaves while its prompt is read would stop the decoding of all slots, and nobody is told.
    Edit("src/llama.cpp", "    stop_internal_decode = true;\n", ""),
    # A slot that reads its prompt would not be released, but read on and answer nobody.
    Edit(
        _SERVER,
        "void server_slot::release() {\n    if (state == SLOT_STATE_PROCESSING) {",
        "void server_slot::release() {\n    if (is_processing()) {",
    ),
    # Whether the client is still there would be asked only after a second without news of any slot.
    Edit(
        _QUEUE,
        "recv_with_timeout(const std::unordered_set<int>& id_tasks, int timeout) {\n",
        "recv_with_timeout(const std::unordered_set<int>& id_tasks, int timeout) {\n"
        "    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout);\n",
    ),
    Edit(
        _QUEUE,
        "condition_results.wait_for(lock, std::chrono::seconds(timeout))",
        "condition_results.wait_until(lock, deadline)",
    ),
)

_REFUSALS = (
    # A grammar that does not parse would leave the text unbound.
    Edit(
        "common/sampling.cpp",
        "    result->grammar = grmr;\n",
        "    if (!params.grammar.empty() && grmr == nullptr) {\n        delete result;\n        return nullptr;\n    }\n"
        "    result->grammar = grmr;\n",
    ),
    # A schema that can't be converted would end the process.
    Edit(
        _SERVER,
        'throw std::runtime_error(std::string("\\"json_schema\\": ") + e.what());',
        'send_error(task, std::string("\\"json_schema\\": ") + e.what(), ERROR_TYPE_INVALID_REQUEST);\n'
        "            return false;",
    ),
    # So would a token that the model does not have.
    Edit(
        "examples/server/server-common.cpp",
        "        std::vector<llama_token> tmp = json_prompt.get<std::vector<llama_token>>();\n",
        "        std::vector<llama_token> tmp = json_prompt.get<std::vector<llama_token>>();\n"
        "        for (auto token : tmp) {\n"
        '            if (token < 0 || token >= llama_vocab_n_tokens(vocab)) throw std::runtime_error("invalid tokens");\n'
        "        }\n",
    ),
)

_SLOTS = (
    # The end of the used cells is looked for in steps: with holes among several slots, cells behind it would be forgotten.
    Edit("src/llama.cpp", "llama_kv_cache_cell_max(kv_self, pad);", "llama_kv_cache_cell_max(kv_self);"),
    # Flash attention takes a block of keys for masked when the last query can't see the first key: true for one slot only.
    Edit(
        _ATTENTION,
        "template <int q_step_in, int k_step_in>\nstruct FlashMS {",
        "static inline bool is_masked(int num_queries, int num_keys, int stride_m, const char * mask, int first) {\n"
        "    for (int j = 0; j < num_queries; ++j) {\n"
        "        auto row = (const uint16_t *)(mask + j*stride_m) + first;\n"
        "        for (int l = 0; l < num_keys; ++l) if (row[l] == 0) return false;\n"
        "    }\n"
        "    return true;\n"
        "}\n\n"
        "template <int q_step_in, int k_step_in>\nstruct FlashMS {",
    ),
    Edit(
        _ATTENTION,
        "; ik >=0 && Mc[ik] != 0; ik -= k_step);",
        "; ik >=0 && is_masked(q_step, k_step, stride_m, mr, ik); ik -= k_step);",
        count=4,
    ),
    # Most blocks of a shared cache belong to other slots.
    Edit(
        _ATTENTION,
        "for (int k1 = 0; k1 < ik/k_step; ++k1) {\n",
        "for (int k1 = 0; k1 < ik/k_step; ++k1) {\n" + _skip("q_step"),
        count=4,
    ),
    Edit(
        _ATTENTION,
        "for (int k1 = 0; k1 < nk1/k_step; ++k1) {\n",
        "for (int k1 = 0; k1 < nk1/k_step; ++k1) {\n" + _skip("n_left"),
        count=3,
    ),
    # A sliding window is taken for the end of the cache, which is another slot's; the mask says it rightly.
    Edit(_FLASH, "if (n_swa > 0 && mask) {", "if (false) {"),
)


def _unpush(indent: int) -> Edit:
    """The token that ended an answer was sampled, not decoded: kept in the cache it would leave a hole behind the answer."""
    start = "\n" + " " * indent
    end = f"{start}send_final_response(slot);"
    return Edit(_SERVER, f"{start}slot.cache_tokens.push_back(slot.sampled);{start}slot.n_past++;{end}", end)


_CACHE = (
    *(_unpush(indent) for indent in (20, 12, 8)),
    # An answer that comes before it is waited for would be lost, and its thread with it: saving a slot takes microseconds.
    Edit(
        "examples/server/server.cpp",
        "const int id_task = ctx_server.queue_tasks.post(std::move(task));\n"
        "        ctx_server.queue_results.add_waiting_task_id(id_task);\n",
        "const int id_task = task.id = ctx_server.queue_tasks.get_new_id();\n"
        "        ctx_server.queue_results.add_waiting_task_id(id_task);\n"
        "        ctx_server.queue_tasks.post(std::move(task));\n",
        count=7,
    ),
    # That a file can't be restored would be told to nobody.
    Edit(
        _SERVER,
        '            send_error(task, "Unable to restore slot, no available space in KV cache or invalid slot save file", '
        "ERROR_TYPE_INVALID_REQUEST);\n",
        "            server_task_result refusal;\n"
        "            refusal.id = task.id;\n"
        "            refusal.stop = true;\n"
        "            refusal.error = true;\n"
        '            refusal.data = format_error_response("invalid slot save file", ERROR_TYPE_INVALID_REQUEST);\n'
        "            queue_results.send(refusal);\n",
    ),
)

_KERNELS = (
    # It works in steps of 128 and leaves out what is left of a row: the last 64 of SmolLM2's 576 weights.
    Edit(
        "ggml/src/iqk/iqk_gemm_legacy_quants.cpp",
        "            IQK_SET_MUL_MAT_FUNCTIONS(mul_mat_q8_1_r8_q8_2, kernels)",
        "            if (ne00%(4*QK8_0) != 0) return false;\n"
        "            IQK_SET_MUL_MAT_FUNCTIONS(mul_mat_q8_1_r8_q8_2, kernels)",
    ),
)

_MEMORY = (
    # Clearing the key-value cache takes longer than all else of a load, and claims all its memory: fresh memory is empty
    # already, and what a cell held when it is free nobody looks at.
    Edit("ggml/src/ggml-backend.cpp", "    void * data = malloc(size); // TODO", "    void * data = calloc(1, size); // TODO"),
    Edit(
        "src/llama.cpp",
        '            ggml_backend_buffer_clear(buf, 0);\n            LLAMA_LOG_INFO("%s: %10s KV',
        "            const bool is_fresh = ggml_backend_buffer_get_type(buf) == ggml_backend_cpu_buffer_type();\n"
        "            if (!is_fresh) ggml_backend_buffer_clear(buf, 0);\n"
        '            LLAMA_LOG_INFO("%s: %10s KV',
    ),
    Edit(
        "src/llama.cpp",
        "    cache.used = 0;\n\n    for (auto & buf : cache.bufs) {\n        ggml_backend_buffer_clear(buf, 0);\n    }\n",
        "    cache.used = 0;\n",
    ),
)

_DYING = (
    # An abort would start a debugger, which keeps the dead process for seconds.
    Edit(
        "ggml/src/ggml.c",
        '    fprintf(stderr, "\\n");\n\n    ggml_print_backtrace();\n    abort();',
        '    fprintf(stderr, "\\n");\n    abort();',
    ),
)

_DRAFTS = (
    # How much was guessed, and rightly.
    Edit(
        _SERVER,
        '        {"prompt_ms",              t_prompt_processing},\n',
        '        {"prompt_ms",              t_prompt_processing},\n'
        '        {"draft_n",                n_draft_total},\n'
        '        {"draft_n_accepted",       n_draft_accepted},\n',
    ),
    # A batch of guesses comes without log-probabilities; and who guesses wrong three times in four only loses time.
    Edit(
        _SERVER,
        "    if (!can_speculate()) {\n        return 0;",
        "    const bool mostly_fail = n_draft_total >= 64 && n_draft_accepted < n_draft_total/4;\n"
        "    if (!can_speculate() || sparams.n_probs > 0 || mostly_fail) {\n        return 0;",
    ),
    # Without a guess it goes the way of everybody else.
    Edit(
        _SERVER,
        "if (slot.params.speculative.n_min > (int)draft.size()) {",
        "if (draft.empty() || slot.params.speculative.n_min > (int)draft.size()) {",
    ),
    # Tokens are counted as they are told: all at once they would be over the limit before the first of them is.
    Edit(_SERVER, "        slot.n_decoded += ids.size();\n", ""),
    Edit(
        _SERVER,
        "            result.tok = ids[i];\n",
        "            result.tok = ids[i];\n            slot.n_decoded += 1;\n",
    ),
)

_WAITING = (
    # A thread that waits for the others in a tight loop takes the core from the one that it waits for, when something else
    # runs on this machine: it tries for some ten microseconds, then it sleeps until the last of them wakes it.
    Edit(
        _GGML,
        "#if defined(__gnu_linux__)\n#include <syscall.h>\n#endif\n",
        "#if defined(__gnu_linux__)\n#include <syscall.h>\n#endif\n"
        "#if defined(__linux__)\n#include <linux/futex.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n#endif\n",
    ),
    Edit(
        _GGML,
        "    atomic_int n_barrier_passed;\n",
        "    atomic_int n_barrier_passed;\n    atomic_int n_asleep;\n",
    ),
    Edit(
        _GGML,
        "        /*.n_barrier_passed        =*/ 0,\n",
        "        /*.n_barrier_passed        =*/ 0,\n        /*.n_asleep                =*/ 0,\n",
    ),
    Edit(
        _GGML,
        "        atomic_fetch_add(n_barrier_passed, 1);\n    } else {\n",
        "        atomic_fetch_add(n_barrier_passed, 1);\n"
        "    #if defined(__linux__)\n"
        "        if (atomic_load(&shared->n_asleep) > 0) {\n"
        "            syscall(SYS_futex, n_barrier_passed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);\n"
        "        }\n"
        "    #endif\n"
        "    } else {\n",
    ),
    Edit(_GGML, "const int n_spin_before_sleep = 100000;", "const int n_spin_before_sleep = 1000;"),
    Edit(
        _GGML,
        "            }\n            sched_yield();\n        }\n    }\n}\n",
        "            }\n"
        "        #if defined(__linux__)\n"
        "            atomic_fetch_add(&shared->n_asleep, 1);\n"
        "            syscall(SYS_futex, n_barrier_passed, FUTEX_WAIT_PRIVATE, passed_old, NULL, NULL, 0);\n"
        "            atomic_fetch_sub(&shared->n_asleep, 1);\n"
        "        #else\n"
        "            sched_yield();\n"
        "        #endif\n"
        "        }\n    }\n}\n",
    ),
)

_PROBE = (
    # Virtual machines announce instructions that fault, so the kernels are tried before a model runs on them: `probe.h`.
    Edit(
        "examples/server/server.cpp",
        "int main(int argc, char ** argv) {\n",
        '#include "probe.h"\n\n'
        "int main(int argc, char ** argv) {\n"
        '    if (argc == 2 && std::string(argv[1]) == "--probe") {\n        return probe();\n    }\n',
    ),
)

_THREADS = (
    # Beside another busy process fewer threads decode faster: `spare_threads.h`.
    Edit(_SERVER, '#include "mtmd-helper.h"\n', '#include "mtmd-helper.h"\n#include "spare_threads.h"\n'),
    Edit(
        _SERVER,
        "        const int ret = llama_decode(ctx, batch_view);\n",
        "        static spare_threads<> threads;\n"
        "        const int most = n_tokens == 1 || params_base.n_threads_batch < 1 ? params_base.n_threads : "
        "params_base.n_threads_batch;\n"
        "        const bool is_prompt = n_tokens > (int) slots.size();\n"
        "        const int num_threads = is_prompt ? most : threads.begin(most, n_tokens);\n"
        "        llama_set_n_threads(ctx, num_threads, num_threads);\n"
        "        const int ret = llama_decode(ctx, batch_view);\n"
        "        if (!is_prompt) {\n            threads.end();\n        }\n",
    ),
    # A text must not depend on them: attention is split as for the most threads that there were, and its parts are added up
    # in the same order. A single head of keys was split in another way.
    Edit(
        _FLASH,
        "inline void accumulate_qkv(",
        "// Threads are left out beside other processes; what is computed stays the same.\n"
        "inline int most_threads(int nth) {\n"
        "    static std::atomic<int> most{1};\n"
        "    int seen = most.load();\n"
        "    while (seen < nth && !most.compare_exchange_weak(seen, nth)) {}\n"
        "    return std::max(seen, nth);\n"
        "}\n"
        "inline void accumulate_qkv(",
    ),
    Edit(_FLASH, "#include <algorithm>\n", "#include <algorithm>\n#include <atomic>\n"),
    Edit(
        _FLASH,
        "        if (K->ne[2] > 1) {\n            int gcd = simple_gcd(K->ne[2], nth);\n",
        "        nth = most_threads(nth);\n        if (K->ne[2] > 0) {\n            int gcd = simple_gcd(K->ne[2], nth);\n",
    ),
    Edit(
        _FLASH,
        "    if (neq3 == 1 && rk2 > 1 && neq1 == 1 && nth >= 1 && nek1/32 > 1 && nek2 == 1) {\n",
        "    if (false) {\n",
    ),
    Edit(
        _FLASH,
        "rk2 == rv2 && neq1 == 1 && nth >= 1 && nek2*nek1 >= 32*nth) {\n",
        "rk2 == rv2 && neq1 == 1 && nek2*nek1 >= 32*most_threads(nth)) {\n        const int nth_all = most_threads(nth);\n",
    ),
    Edit(
        _FLASH,
        "        int gcd = simple_gcd(nek2, nth);\n        int nth_k  = nth/gcd;\n",
        "        int gcd = simple_gcd(nek2, nth_all);\n        int nth_k  = nth_all/gcd;\n",
    ),
    Edit(_FLASH, "            nk = 32 * (nek2*nek1/(32*nth));\n", "            nk = 32 * (nek2*nek1/(32*nth_all));\n"),
)

IK_EDITS = (
    *_EVENTS,
    *_CANCELLING,
    *_REFUSALS,
    *_SLOTS,
    *_CACHE,
    *_KERNELS,
    *_MEMORY,
    *_DYING,
    *_DRAFTS,
    *_WAITING,
    *_PROBE,
    *_THREADS,
)
IK_ADDITIONS = {
    "common/cmake/build-info-gen-cpp.cmake": """\
set(BUILD_NUMBER 0)
set(BUILD_COMMIT "sdist")
set(BUILD_COMPILER "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}")
set(BUILD_TARGET "native")
configure_file(common/build-info.cpp.in common/build-info.cpp)
""",
    **{f"examples/server/{name}": Path(__file__).with_name(name).read_text() for name in ("probe.h", "spare_threads.h")},
}
