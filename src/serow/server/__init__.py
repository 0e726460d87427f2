"""HTTP in front of everything else: translates, decides nothing."""
