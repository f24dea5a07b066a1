"""The command line: flags, one server process, its signals and its log."""
