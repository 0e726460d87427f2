"""The wire contract: types and their encoding, no I/O."""
