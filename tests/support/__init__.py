"""What tests, demo and benchmarks share: stand-in servers on 127.0.0.1, batches, accounts and proxies.

Each server is a context manager over real processes. Secrets travel in environments and in files that only the owner
reads, never on a command line. Nothing is fetched, and nothing but loopback is used.
"""
