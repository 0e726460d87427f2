"""What is done with the models of a store: pull, push, create, copy, delete; called by routes and command line alike."""
