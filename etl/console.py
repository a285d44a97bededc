"""Makes standard output and error usable whatever they are: ASCII only, a pipe that nobody reads, or closed."""

from __future__ import annotations

import codecs
import json
import logging
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import TextIO

from etl.threads import is_limited

_ESCAPES = "json-escapes"


def open_streams() -> None:
    """Call once, at the start of a program.

    What is closed leads nowhere from now on: a file that is opened later must not get its number. A sign that the
    encoding has not is written as JSON escapes it, so that JSON stays JSON.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    codecs.register_error(_ESCAPES, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_ESCAPES)
    if is_limited():  # where memory runs out, each thread would say so, in lines of its own
        sys.unraisablehook = bool  # does nothing, and needs no memory for that
        logging.getLogger("concurrent.futures").addHandler(logging.NullHandler())


def close_streams() -> None:
    """Call at the end: what could not be written by then is dropped, or Python would complain on leaving."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            let_go(stream)


def show(text: str) -> None:
    """Print a result. That its reader has gone away is no fault of the work that was done."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        let_go(sys.stdout)


def complain(text: str) -> None:
    """Print a line on stderr, if anybody reads it."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def let_go(stream: TextIO) -> None:
    """Lead a stream that nobody reads nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
