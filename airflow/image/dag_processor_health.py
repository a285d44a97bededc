"""Ends with 0 when this container's dag-processor wrote its heartbeat into the metadata database lately.

Not asked through the api-server, so that one that is stopped does not make this service unhealthy too. `airflow jobs
check` does the same after importing all of Airflow.
"""

import socket
import sys
from pathlib import Path

import psycopg2

if __name__ == "__main__":
    password = Path("/run/secrets/metadata_password").read_text()
    with psycopg2.connect(host="postgres", user="airflow", password=password, connect_timeout=5) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT 1 FROM job WHERE job_type = 'DagProcessorJob' AND hostname = %s"
            " AND latest_heartbeat > now() - interval '30 seconds' LIMIT 1",
            [socket.getfqdn()],
        )
        sys.exit(0 if cursor.fetchone() else 1)
