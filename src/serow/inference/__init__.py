"""The one flow behind every dialect: an Ask goes in, Events come out."""
