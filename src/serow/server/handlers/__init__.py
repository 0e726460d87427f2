"""What answers requests: a file for each dialect and subject. Each handler is named by a row of `server.routes`."""
