"""What we change in the sources of llama.cpp before they are built."""

from serow.engines.build.edit import Edit

_VULKAN = "ggml/src/ggml-vulkan/ggml-vulkan.cpp"

LLAMA_CPP_EDITS = (
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
