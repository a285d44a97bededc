"""The brief's shell scripts: the Python environment, and the source bucket mounted by s3fs."""
