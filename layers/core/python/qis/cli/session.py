"""What every command has in common: options, output, errors, and the system that it talks to."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import urlsplit

import typer

from qis.cli.failures import Failure, failure, refusal, told
from qis.cli.rest import Api
from qis.domain.errors import InvalidInput, QisError

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 140
"""Columns where the output is no terminal."""


class Session:
    """One run of a command. Nothing is connected before it is needed."""

    def __init__(
        self,
        as_json: bool,
        acting_as: str | None,
        data_dir: Path | None,
        environment: Mapping[str, str],
    ) -> None:
        self.as_json = as_json
        self._acting_as = acting_as
        self._environment = environment
        given = environment.get("QIS_DATA_DIR")
        self.data_dir = (data_dir or (Path(given) if given else default_data_dir())).absolute()

    @property
    def chosen_by_option(self) -> str:
        """What a command line needs to reach the same twin: an option, where another one is the default."""
        if self.data_dir == default_data_dir().absolute():
            return ""
        return f" --data-dir {shlex.quote(str(self.data_dir))}"

    # output --------------------------------------------------------------------------------------

    @cached_property
    def out(self) -> Console:
        """What people read, on stdout."""
        return _console(sys.stdout)

    @cached_property
    def err(self) -> Console:
        """Diagnostics and progress, on stderr."""
        return _console(sys.stderr)

    def emit(self, document: object, human: Callable[[Console], None]) -> None:
        """The result: one JSON document, or what ``human`` prints."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        else:
            human(self.out)

    def note(self, text: str) -> None:
        """A diagnostic line."""
        self.err.print(text, highlight=False, markup=False, soft_wrap=True)

    def fail(self, error: Failure) -> NoReturn:
        """Say what went wrong and end with status 1."""
        if self.as_json:
            sys.stdout.write(json.dumps(error.problem, indent=2, ensure_ascii=False) + "\n")
        from qis.cli.render import problem

        problem(self.err, error)
        raise typer.Exit(1)

    # the system ----------------------------------------------------------------------------------

    @property
    def remote(self) -> bool:
        """Whether ``QIS_URL`` names a system, instead of the local twin."""
        return bool(self._environment.get("QIS_URL"))

    @cached_property
    def api(self) -> Api:
        """The REST API of the chosen system.

        Raises:
            Failure: no system is chosen and none runs here, or there is no token for it.
        """
        if not self.remote:
            from local.identity import token

            return Api(self.twin["api"], token(self.twin, "admin", self.subject))
        if self._acting_as is not None:
            said = "is for the local twin; on a remote system the token says who is acting"
            raise typer.BadParameter(said, param_hint="--as")
        bearer = self._environment.get("QIS_TOKEN")
        if not bearer:
            raise failure("no-token", "There is no token", "QIS_URL is set and QIS_TOKEN is not")
        return Api(self._environment["QIS_URL"], bearer, key=self._environment.get("QIS_API_KEY"))

    @property
    def push(self) -> tuple[str, str]:
        """Address of the push channel of the chosen system and a token for it, made anew in the twin.

        Raises:
            Failure: as ``api`` does; the address is not safe, or not known.
        """
        if not self.remote:
            from local.identity import token

            self.__dict__.pop("twin", None)  # it may have been started anew
            return self.twin["push"], token(self.twin, "reader", self.subject)
        url, bearer = self._environment.get("QIS_PUSH_URL"), self._environment.get("QIS_TOKEN")
        if not url or not bearer:
            raise failure("no-push", "The push channel is not known", "set QIS_PUSH_URL and QIS_TOKEN")
        if urlsplit(url).scheme != "wss":
            raise failure("bad-address", "The address is not safe", f"{url} does not begin with wss://")
        return url, bearer

    @cached_property
    def twin(self) -> Mapping[str, Any]:
        """The running local twin, as it describes itself.

        Raises:
            Failure: none runs.
        """
        from local.state import twin_running

        found = twin_running(self.data_dir)
        if found is None:
            raise failure(
                "not-running",
                "No local twin is running",
                f"nothing runs in {self.data_dir}",
                f"start it with `qis up{self.chosen_by_option}`,"
                " or set QIS_URL and QIS_TOKEN for a remote system",
            )
        return found

    @property
    def subject(self) -> str:
        """Who acts in the local twin."""
        return self._acting_as or f"operator:{login_name()}"


def duration(text: str, option: str) -> timedelta:
    """An ISO 8601 duration given on the command line; anything else is bad usage."""
    from qis.domain.durations import parse_duration

    try:
        found = parse_duration(text, option)
    except InvalidInput as error:
        raise typer.BadParameter(f"{text!r} {error.violations[0].message}", param_hint=option) from error
    assert found is not None
    return found


def login_name() -> str:
    """Login name of the person at the terminal; the user id where there is no name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in the password database, as in some containers
        return f"uid-{os.getuid()}"


def project_root() -> Path | None:
    """The checkout that this program runs from; ``None`` where it is installed without one."""
    root = Path(__file__).resolve().parents[5]
    return root if (root / "pyproject.toml").exists() and (root / "data" / "bundle").is_dir() else None


def default_data_dir() -> Path:
    """``.twin`` in the project, or here."""
    return (project_root() or Path.cwd()) / ".twin"


def _console(stream: Any) -> Console:
    from rich.console import Console

    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False)


AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
As = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="SUBJECT", help="Act as this person in the local twin (four eyes need two people)."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="QIS_DATA_DIR",
        show_envvar=True,
        help="Where the local twin keeps its data.",
        show_default=".twin in the project",
    ),
]
COMMON: Mapping[str, Any] = {"as_json": AsJson, "acting_as": As, "data_dir": DataDir}
_DEFAULTS: Mapping[str, Any] = {"as_json": False, "acting_as": None, "data_dir": None}


def _unwrapped(function: Callable[..., None]) -> str:
    """What a function says of itself, each paragraph in one line: the terminal breaks it where it ends."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs)


def command(
    app: typer.Typer, name: str, **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command: its first parameter is the ``Session``, the others are its own.

    The options of ``COMMON`` are added, and what goes wrong is told in one way: a ``Failure``, a refusal of
    the domain, or a file that cannot be used, ends with status 1.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        shared = [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[n], annotation=a)
            for n, a in COMMON.items()
        ]

        @wraps(function)
        def run(**given: Any) -> None:
            session = Session(**{n: given.pop(n) for n in COMMON}, environment=os.environ)
            try:
                function(session, **given)
            except Failure as error:
                session.fail(error)
            except QisError as error:
                session.fail(refusal(error))
            except OSError as error:
                if error.filename is None:
                    raise
                session.fail(failure("unusable", "A file or directory cannot be used", told(error)))

        described: Any = run
        described.__signature__ = signature.replace(parameters=[*own, *shared])
        described.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}
        app.command(name, **{"help": _unwrapped(function), **settings})(described)
        return function

    return register
