"""Which files: the company index, the gate and its plan, and the places (folder, S3) that files are in."""
