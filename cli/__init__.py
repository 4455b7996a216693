"""The command line: one file per command, options and one library call each."""
