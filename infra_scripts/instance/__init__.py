"""Scripts for the EC2 instance. They import nothing of the rest: the instance has only Python 3.10 and the archive."""
