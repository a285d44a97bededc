"""Sends one message a run to the channels of MBD_CHANNELS: Slack, Teams, webhooks and others, by apprise.

apprise is optional: where it is missing, the receipt and `check` say so. The URLs are secrets. A process of its own
sends the messages (messenger.py): it can be ended when a channel is slow, and what libraries log about a URL goes
nowhere.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from etl.batch.aws import Aws
from etl.batch.storage import Storage
from etl.errors import EtlError, only_etl_errors
from etl.outcome.delivery import ChannelState, Delivery
from etl.outcome.mail import message_of
from etl.outcome.metrics import put_metrics
from etl.outcome.receipt import Receipt, State, file_name, write_receipt

_MESSENGER = Path(__file__).with_name("messenger.py")
_CHANNEL_SECONDS = 15.0  # for all channels together: an Airflow callback is killed after 50, and the mail comes first
_NOT_INSTALLED = "apprise is not installed: pip install 'moving-big-data[channels]'"
_NOT_SENT = "The channel {name} did not get the message: {reason}."
_NO_METRICS = "The metrics were not sent: {error}"
_ADDED = tuple(note[: note.index("{")] for note in (_NOT_SENT, _NO_METRICS))
_HAS_A_HOST = {"form", "forms", "http", "https", "json", "jsons", "workflow", "workflows", "xml", "xmls"}


@dataclass(frozen=True)
class Channels:
    """Where a run is reported in addition to the mail: URLs as apprise takes them, and a namespace of CloudWatch."""

    urls: tuple[str, ...] = field(default=(), repr=False)
    metrics_namespace: str = ""

    @property
    def names(self) -> list[str]:
        """What a person may see of each URL: its scheme, and its host where that is one. slack://TOKEN/... has none."""
        named = [_name(url) for url in self.urls]
        seen = [named[:number].count(name) for number, name in enumerate(named)]
        return [f"{name} ({before + 1})" if before else name for name, before in zip(named, seen, strict=True)]


def report_to(
    receipt: Receipt,
    *,
    channels: Channels,
    title: str,
    aws: Aws,
    output: Storage | None,
    may_write_receipt: bool = True,
) -> Receipt:
    """Send the mail's text to each channel, and the run's figures to CloudWatch; the receipt says what became of it.

    Takes a bounded time, and raises nothing: the run has ended, whatever a channel does.
    """
    if not channels.urls and not channels.metrics_namespace:
        return receipt
    notes = []
    deliveries = tuple(_send_messages(receipt, channels=channels, title=title, output=output))
    for one in deliveries:
        if one.state == ChannelState.FAILED:
            notes.append(_NOT_SENT.format(name=one.channel, reason=one.reason))
    if channels.metrics_namespace:
        try:
            with only_etl_errors():
                put_metrics(receipt, namespace=channels.metrics_namespace, aws=aws)
        except EtlError as error:
            notes.append(_NO_METRICS.format(error=error))
    receipt = replace(receipt, channels=deliveries, notes=(*receipt.notes, *notes))
    if output and may_write_receipt:
        with suppress(EtlError), only_etl_errors():
            write_receipt(receipt, output=output)
    return receipt


def without_deliveries(written: Mapping[str, Any], *, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a receipt in the output without what `report_to` has added to the one that was recorded."""
    notes, count = written.get("notes", []), len(recorded.get("notes", []))
    kept = [*notes[:count], *(note for note in notes[count:] if not note.startswith(_ADDED))]
    before = {name: fact for name, fact in written.items() if name != "channels"} | {"notes": kept}
    return before | {name: recorded[name] for name in ("channels",) if name in recorded}


def try_channels(channels: Channels) -> Iterator[tuple[str, str]]:
    """The name of each channel, and what is wrong with its URL, if anything. Sends nothing."""
    yield from zip(channels.names, _order_messenger({"urls": channels.urls, "send": False}), strict=True)


def _send_messages(receipt: Receipt, *, channels: Channels, title: str, output: Storage | None) -> Iterator[Delivery]:
    whole = output.url_of(file_name(receipt.run_id)) if output else ""
    order = {
        "urls": channels.urls,
        "send": True,
        "title": title,
        "text": message_of(receipt, output=output),
        "ending": f"\n... cut here; the whole receipt: {whole}\n",
        "failed": receipt.state == State.FAILED,
    }
    for name, wrong in zip(channels.names, _order_messenger(order), strict=True):
        yield Delivery(name, ChannelState.FAILED if wrong else ChannelState.SENT, wrong)


def _order_messenger(order: Mapping[str, Any]) -> list[str]:
    """What is wrong with each of the order's URLs, after at most `_CHANNEL_SECONDS`; nothing where all is well."""
    urls = order["urls"]
    if not urls:
        return []
    if find_spec("apprise") is None:
        return [_NOT_INSTALLED] * len(urls)
    answers = [f"no answer within {_CHANNEL_SECONDS:g} s"] * len(urls)
    try:
        with subprocess.Popen(  # noqa: S603  our own file; -P: it finds no module of etl by a bare name
            [sys.executable, "-P", _MESSENGER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as messenger:
            try:
                printed, _ = messenger.communicate(json.dumps(order), timeout=_CHANNEL_SECONDS)
            except subprocess.TimeoutExpired:
                messenger.kill()
                printed, _ = messenger.communicate()
            finally:
                messenger.kill()
    except OSError as error:
        return [f"no process could be started for it ({error.strerror})"] * len(urls)
    for line in printed.splitlines():
        with suppress(ValueError):  # of a process that was ended while it printed
            number, wrong = json.loads(line)
            answers[number] = wrong
    return answers


def _name(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or not re.fullmatch(r"[a-z][a-z0-9]{1,20}", scheme):
        return "without a scheme"
    place = re.match(r"(?:[^/@?#]*@)?([A-Za-z0-9.-]+)(?::\d+)?(?=[/?#]|$)([^@]*)$", rest)
    return f"{scheme}://{place[1]}" if scheme in _HAS_A_HOST and place else scheme
