"""How engines get onto this machine: fetched, edited, compiled, tried."""
