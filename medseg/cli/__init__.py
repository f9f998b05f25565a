"""The command line: one file a command; every command prints tables for people and, with --json, one document for programs."""
