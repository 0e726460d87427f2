"""Files of weights made of others: quantized, merged of parts, converted; each by a process of its own that can be ended."""
