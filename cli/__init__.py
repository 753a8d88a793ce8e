"""The commands: arguments in, reports out, exit codes."""
