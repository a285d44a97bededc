"""Posts one message to several channels at once: a program of its own, which uses no other module of etl.

Its order is JSON on stdin: `urls`, `title`, `text`, `ending` (of a text that is cut), `failed`, and `send`, without
which it only looks at the URLs. For each URL, as soon as it is known, it prints a line of JSON: its number, and what is
wrong.
"""

import json
import logging
import re
import sys
import threading
from typing import Any


class _Statuses(logging.Handler):
    """Keeps the last HTTP status that apprise logged in each thread, and nothing else of what it logs."""

    def __init__(self) -> None:
        super().__init__()
        self.of_thread: dict[int, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.search(r"\berror=([1-5]\d\d)\b", record.getMessage()):
            self.of_thread[threading.get_ident()] = found[1]


def _post(url: str, *, order: dict[str, Any], statuses: _Statuses) -> str:
    """Post the message to one channel; returns what is wrong, or nothing."""
    from apprise import Apprise, NotifyFormat, NotifyType, OverflowMode  # noqa: PLC0415  optional

    channel = Apprise.instantiate(url, suppress_exceptions=True)
    if channel is None:
        return "apprise does not know such a URL, or a part of it is missing"
    if not order["send"]:
        return ""
    channel.notify_format = NotifyFormat.TEXT
    channel.overflow_mode = OverflowMode.TRUNCATE  # never several messages
    text, title = order["text"], order["title"]
    room = channel.body_maxlen - (0 if channel.title_maxlen else len(title) + 20)
    if len(text) > room:
        text = text[: max(room - len(order["ending"]), 0)] + order["ending"]
    kind = NotifyType.FAILURE if order["failed"] else NotifyType.SUCCESS
    if channel.notify(body=text, title=title, notify_type=kind):
        return ""
    status = statuses.of_thread.get(threading.get_ident())
    return f"it answered with HTTP {status}" if status else "it could not be reached, or refused the message"


def main() -> None:
    """Ends when every channel has answered; who started it ends it before, if that takes too long."""
    order = json.load(sys.stdin)
    results, sys.stdout = sys.stdout, sys.stderr
    statuses = _Statuses()
    logging.getLogger("apprise").addHandler(statuses)

    def work(number: int, url: str) -> None:
        try:
            wrong = _post(url, order=order, statuses=statuses)
        except Exception as error:  # whatever a plugin of apprise raises: its text may hold the URL
            wrong = f"apprise failed ({type(error).__name__})"
        results.write(json.dumps([number, wrong]) + "\n")
        results.flush()

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(order["urls"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
