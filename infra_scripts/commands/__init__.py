"""The commands that a person types, one module each. `Command` in cli.py says what a module has."""
