"""An Ask becomes the text of a prompt, and token ids that fit the context."""
