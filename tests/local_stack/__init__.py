"""Starts the deployed system's stand-ins on 127.0.0.1 and stops them without a trace.

Each server is a context manager over real processes. Secrets travel in environments and in files that only the owner
reads, never on a command line. Nothing is fetched, and nothing but loopback is used.
"""

from tests.local_stack.airflow_server import AirflowServer
from tests.local_stack.ministack import MinistackServer
from tests.local_stack.moto import MotoServer
from tests.local_stack.postgres import PostgresServer
from tests.local_stack.process import StackError

__all__ = ["AirflowServer", "MinistackServer", "MotoServer", "PostgresServer", "StackError"]
