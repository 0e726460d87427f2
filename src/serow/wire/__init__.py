"""What goes over the wire: a file for each dialect, no I/O. Bytes become an Ask, Events become bytes."""
