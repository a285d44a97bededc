"""The AWS platform and what a person does with it: `python -m infra_scripts --help`."""
