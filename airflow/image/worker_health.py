"""Ends with 0 when this container's Celery worker answers a ping through Redis.

`celery inspect ping` does the same after importing all of Airflow, which takes a small machine up to 20 s every time.
"""

import os
import socket
import sys
from pathlib import Path

from celery import Celery

if __name__ == "__main__":
    password = Path("/run/secrets/redis_password").read_text()
    broker = Celery(broker=f"redis://:{password}@{os.environ['AIRFLOW_REDIS_ADDRESS']}/0")
    sys.exit(0 if broker.control.ping(destination=[f"celery@{socket.gethostname()}"], timeout=5) else 1)
