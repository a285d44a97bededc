"""What holds for all tests."""

import signal

# A shell that starts pytest in the background has it ignore Ctrl-C, and its children with it; tests send it to these.
signal.signal(signal.SIGINT, signal.default_int_handler)
