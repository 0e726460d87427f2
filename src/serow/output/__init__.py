"""What a model writes, told apart while it streams: thinking, text, tool calls."""
