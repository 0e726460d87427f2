"""What a model writes, told apart while it streams."""
