"""What we change in the sources of llama.cpp before they are built."""

from serow.engines.build.edit import Edit

LLAMA_CPP_EDITS = (
    # A batch of guesses comes without log-probabilities; and who guesses wrong three times in four only loses time.
    Edit(
        "tools/server/server-context.cpp",
        "        if (!can_speculate()) {\n            return 0;",
        "        const bool mostly_fail = stats.n_draft_tokens >= 64 && stats.n_draft_accepted < stats.n_draft_tokens/4;\n"
        "        if (!can_speculate() || task->params.sampling.n_probs > 0 || mostly_fail) {\n            return 0;",
    ),
)
