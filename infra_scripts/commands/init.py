"""`init`: asks for the settings, or takes them as options, checks them, and writes .env."""

from __future__ import annotations

import argparse
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from infra_scripts.aws import open_session
from infra_scripts.console import confirm, progress, result
from infra_scripts.environment import write_values
from infra_scripts.errors import InfraError, SettingsError
from infra_scripts.names import Names
from infra_scripts.platform.account_plan import FREE_PLAN_BACKUP_DAYS, find_free_plan
from infra_scripts.settings import Settings, public_address, read_settings

HELP = "ask for names, region, mail address, your address and profile, and write .env"
EXAMPLES = [
    "init",
    "init --my-address detect",
    "init --first-name Ada --last-name Lovelace --email ada@example.org --my-address detect --profile course",
]

_ADDRESS_SERVICE = "https://checkip.amazonaws.com"  # AWS's own; answers with the address of the one who asks


@dataclass(frozen=True)
class _Question:
    option: str
    variable: str
    text: str
    default: str = ""


_QUESTIONS = (
    _Question("first-name", "MBD_FIRST_NAME", "First name (letters A to Z; part of every resource's name)"),
    _Question("last-name", "MBD_LAST_NAME", "Last name"),
    _Question("region", "AWS_REGION", "AWS region", default="eu-west-1"),
    _Question("email", "MBD_EMAIL", "Mail address that gets the notices of success and failure"),
    _Question("my-address", "MBD_MY_ADDRESS", "Your IPv4 address, for SSH and the database ('detect' asks AWS)"),
    _Question(
        "profile",
        "MBD_PROFILE",
        "Profile: default, where nothing is open to the world; or course, which takes the course's brief literally",
        default="default",
    ),
)
_OPTIONAL = (
    _Question("key-name", "MBD_KEY_NAME", "the EC2 key pair for SSH"),
    _Question("image-id", "MBD_IMAGE_ID", "an AMI to use instead of the newest Ubuntu"),
    _Question("instance-type", "MBD_INSTANCE_TYPE", "an instance type other than t2.medium"),
    _Question("backup-days", "MBD_BACKUP_DAYS", "how many days of the database's backups AWS keeps, other than 7"),
    _Question("transport", "MBD_TRANSPORT", "how the trigger reaches Airflow: ssm, or http (an open port, with TLS)"),
    _Question("scale-to-zero", "MBD_SCALE_TO_ZERO", "on: the instance stops itself when it has nothing to do"),
    _Question("marking-email", "MBD_MARKING_EMAIL", "who else gets the mails in profile course, if not the brief's"),
)
# To check one answer, read_settings needs these too.
_OTHER_SETTINGS = {"MBD_FIRST_NAME": "A", "MBD_LAST_NAME": "B", "AWS_REGION": "eu-west-1"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting: with all of them, nothing is asked."""
    for question in (*_QUESTIONS, *_OPTIONAL):
        parser.add_argument(f"--{question.option}", metavar="X", help=f"{question.text} ({question.variable})")


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    """Ask for what no option gives (without a terminal: take it from .env), check everything, and write it."""
    given = {
        question.variable: value.strip()
        for question in (*_QUESTIONS, *_OPTIONAL)
        if (value := getattr(options, question.option.replace("-", "_"))) is not None
    }
    values = {**_answers(given, environment=environment), **given}
    if values.get("MBD_MY_ADDRESS") == "detect":
        values["MBD_MY_ADDRESS"] = detect_address()
    settings = read_settings({**environment, **values})
    if settings.my_address:
        values["MBD_MY_ADDRESS"] = public_address(settings.my_address)
    values = {name: value for name, value in values.items() if value}
    values |= _needed_by_plan(settings, environment={**environment, **values})
    _confirm_renaming(settings.names, environment=environment, options=options)
    changed = [] if options.dry_run else write_values(options.env_file, values)
    facts = {"file": str(options.env_file), "written": changed, "settings": values, "names": _names(settings)}
    result(_names_text(settings, changed=changed, options=options), facts=facts, options=options)
    return 0


def _needed_by_plan(settings: Settings, *, environment: Mapping[str, str]) -> dict[str, str]:
    """What an account on AWS's free plan needs and nobody has set; nothing where AWS cannot be asked."""
    try:
        free = find_free_plan(open_session(settings))
    except InfraError as error:
        progress(f"The account's plan is not known. {error} `check` says later what the account refuses.")
        return {}
    if free is None:
        return {}
    proposed = {"MBD_INSTANCE_TYPE": free.proposed_type, "MBD_BACKUP_DAYS": str(FREE_PLAN_BACKUP_DAYS)}
    needed = {name: value for name, value in proposed.items() if value and not environment.get(name, "").strip()}
    if needed:
        what = ", ".join(f"{name}={value}" for name, value in needed.items())
        progress(f"The account is on AWS's free plan, which refuses t2.medium and 7 days of backups: setting {what}.")
    return needed


def detect_address() -> str:
    """The address under which AWS sees this machine. Raises SettingsError when AWS does not answer."""
    try:
        with urllib.request.urlopen(_ADDRESS_SERVICE, timeout=5) as answer:
            return str(answer.read(64).decode("ascii").strip())
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"Your address could not be detected ({error}). Pass what {_ADDRESS_SERVICE} shows: --my-address X"
        ) from error


def _answers(given: Mapping[str, str], *, environment: Mapping[str, str]) -> dict[str, str]:
    """A value for each question: typed at a terminal, else from .env."""
    known = {question.variable: environment.get(question.variable, "") for question in _QUESTIONS}
    if sys.stdin.isatty():
        return {
            question.variable: _ask(question, known=known[question.variable])
            for question in _QUESTIONS
            if question.variable not in given
        }
    needed = [question for question in _QUESTIONS if not question.default and question.variable != "MBD_MY_ADDRESS"]
    missing = [question for question in needed if not (given.get(question.variable) or known[question.variable])]
    if missing:
        names = ", ".join(f"--{question.option}" for question in missing)
        raise SettingsError(f"There is no terminal to ask at. Pass {names}, or run init at a terminal.")
    return {question.variable: known[question.variable] or question.default for question in _QUESTIONS}


def _ask(question: _Question, *, known: str) -> str:
    """Ask until the answer is valid; Return takes the value shown in brackets."""
    default = known or question.default
    while True:
        print(f"{question.text}{f' [{default}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise SettingsError("The input ended before all questions were answered. Nothing was written.")
        answer = line.strip() or default
        try:
            if answer == "detect" and question.variable == "MBD_MY_ADDRESS":
                answer = detect_address()
                progress(f"your address is {answer}")
            if not answer:
                raise SettingsError("This needs an answer.")
            _check(question, answer)
        except SettingsError as error:
            progress(str(error))
        else:
            return answer


def _check(question: _Question, answer: str) -> None:
    settings = read_settings({**_OTHER_SETTINGS, question.variable: answer})
    public_address(settings.my_address)


def _confirm_renaming(names: Names, *, environment: Mapping[str, str], options: argparse.Namespace) -> None:
    first, last = environment.get("MBD_FIRST_NAME", ""), environment.get("MBD_LAST_NAME", "")
    if not options.dry_run and first and last and (first, last) != (names.first, names.last):
        confirm(
            f"{options.env_file} has the name {first} {last}. Resources that exist in AWS under that name stay there, "
            "and teardown under the new name will not find them.",
            options=options,
        )


def _names(settings: Settings) -> dict[str, str]:
    names = settings.names
    return {
        "source bucket": settings.source_bucket,
        "monitored bucket": names.monitored_bucket,
        "topic": names.topic,
        "instance": names.instance,
        "database": names.database,
        "platform stack": names.platform_stack,
        "trigger stack": names.trigger_stack,
    }


def _names_text(settings: Settings, *, changed: list[str], options: argparse.Namespace) -> str:
    lines = [f"{kind:<17} {name}" for kind, name in _names(settings).items()]
    if options.dry_run:
        return "\n".join([*lines, "", f"Dry run: {options.env_file} was not written."])
    written = f"wrote {', '.join(changed)}" if changed else "nothing to change"
    lines += ["", f"{options.env_file}: {written}."]
    if settings.profile == "course":
        lines.append(
            "Profile course opens the database, all ports and the monitored bucket to the world, as the brief has it, "
            f"and {settings.marking_email} gets the mails too. `plan` and docs/course.md say what each opens."
        )
    if not settings.my_address:
        lines.append("apply also needs your address. Run: python -m infra_scripts init --my-address detect")
    return "\n".join([*lines, "Next: python -m infra_scripts plan"])
