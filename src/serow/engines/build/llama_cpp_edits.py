"""What we change in the sources of llama.cpp before they are built."""

from serow.engines.build.edit import Edit

_VULKAN = "ggml/src/ggml-vulkan/ggml-vulkan.cpp"
_CPU = "ggml/src/ggml-cpu/ggml-cpu.c"

_WAITING = (
    # Without OpenMP a thread waits for the others in a tight loop, and takes the core from the one that it waits for when
    # something else runs on this machine: it tries for some ten microseconds, then it sleeps until the last of them wakes it.
    Edit(
        _CPU,
        "#if defined(__gnu_linux__)\n#include <syscall.h>\n#endif\n",
        "#if defined(__gnu_linux__)\n#include <syscall.h>\n#endif\n"
        "#if defined(__linux__)\n#include <linux/futex.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n#endif\n",
    ),
    Edit(
        _CPU,
        "    atomic_int GGML_CACHE_ALIGN n_barrier_passed;\n",
        "    atomic_int GGML_CACHE_ALIGN n_barrier_passed;\n    atomic_int n_asleep;      // of those that wait at a barrier\n",
    ),
    Edit(
        _CPU,
        "        threadpool->n_barrier_passed = 0;\n",
        "        threadpool->n_barrier_passed = 0;\n        threadpool->n_asleep         = 0;\n",
    ),
    Edit(
        _CPU,
        "        atomic_fetch_add_explicit(&tp->n_barrier_passed, 1, memory_order_seq_cst);\n        return;\n",
        "        atomic_fetch_add_explicit(&tp->n_barrier_passed, 1, memory_order_seq_cst);\n"
        "    #if defined(__linux__)\n"
        "        if (atomic_load(&tp->n_asleep) > 0) {\n"
        "            syscall(SYS_futex, &tp->n_barrier_passed, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);\n"
        "        }\n"
        "    #endif\n"
        "        return;\n",
    ),
    Edit(
        _CPU,
        "== n_passed) {\n        ggml_thread_cpu_relax();\n    }\n",
        "== n_passed) {\n        ggml_thread_cpu_relax();\n"
        "    #if defined(__linux__)\n"
        "        if (++n_tries > 1000) {\n"
        "            atomic_fetch_add(&tp->n_asleep, 1);\n"
        "            syscall(SYS_futex, &tp->n_barrier_passed, FUTEX_WAIT_PRIVATE, n_passed, NULL, NULL, 0);\n"
        "            atomic_fetch_sub(&tp->n_asleep, 1);\n"
        "        }\n"
        "    #endif\n"
        "    }\n",
    ),
    Edit(
        _CPU,
        "    // wait for other threads\n    while (atomic_load_explicit(&tp->n_barrier_passed",
        "    // wait for other threads\n"
        "    #if defined(__linux__)\n    int n_tries = 0;\n    #endif\n"
        "    while (atomic_load_explicit(&tp->n_barrier_passed",
    ),
    # So does one that has nothing to do, for a tenth of a second behind each token.
    Edit(
        _CPU,
        "    const uint64_t n_rounds = 1024UL * 128 * threadpool->poll;\n",
        "    #if defined(__linux__)\n    const uint64_t n_rounds = 20UL * threadpool->poll;\n    #else\n"
        "    const uint64_t n_rounds = 1024UL * 128 * threadpool->poll;\n    #endif\n",
    ),
)

LLAMA_CPP_EDITS = (
    *_WAITING,
    # A batch of guesses comes without log-probabilities; and who guesses wrong three times in four only loses time.
    Edit(
        "tools/server/server-context.cpp",
        "        if (!can_speculate()) {\n            return 0;",
        "        const bool mostly_fail = stats.n_draft_tokens >= 64 && stats.n_draft_accepted < stats.n_draft_tokens/4;\n"
        "        if (!can_speculate() || task->params.sampling.n_probs > 0 || mostly_fail) {\n            return 0;",
    ),
    # A request may say how many tokens are guessed at once, none included.
    Edit(
        "tools/server/server-task.h",
        "    int32_t n_predict = -1;",
        "    int32_t n_draft_max = INT32_MAX;\n    int32_t n_predict = -1;",
    ),
    Edit(
        "tools/server/server-schema.cpp",
        "    // TODO: to keep things simple, we disable speculative parameter adjustments for now\n",
        '    add((new field_num("speculative.n_max", params.n_draft_max))\n        ->set_hard_limits(0, INT32_MAX));\n\n',
    ),
    Edit(
        "tools/server/server-context.cpp",
        "        int n_draft_max = n_ctx - prompt.n_tokens() - 2;\n",
        "        int n_draft_max = std::min(n_ctx - prompt.n_tokens() - 2, task->params.n_draft_max);\n",
    ),
    # The headers of Debian 12 don't know the settings of layers, which only a build for debugging makes.
    Edit(
        _VULKAN,
        "    std::vector<vk::LayerSettingEXT> settings = {\n",
        "#ifdef VK_EXT_layer_settings\n    std::vector<vk::LayerSettingEXT> settings = {\n",
    ),
    Edit(
        _VULKAN,
        "layers, extensions, &layer_setting_info);\n",
        "layers, extensions, &layer_setting_info);\n#else\n    (void) enable_best_practice;\n"
        "    vk::InstanceCreateInfo instance_create_info(vk::InstanceCreateFlags{}, &app_info, layers, extensions);\n#endif\n",
    ),
)
