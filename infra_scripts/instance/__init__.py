"""What runs on the EC2 instance. Nothing here imports the rest: the instance has only Python 3.10 and the archive."""
