"""What there is to run on beside the CPU: `inventory` looks, `match` decides what is the same card, `device` is told."""
