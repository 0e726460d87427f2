"""Who is loaded, who waits, who leaves: `scheduler` owns the state, `placement` decides, `resident` is one model in memory."""
