"""What a person types: one module a command, each with HELP, `configure` and `run`."""
