"""Methods by name: which there are, and the parameters that each takes.

A method is named in a rule document by its name alone, or by an object that adds its parameters
(``{"name": "vote", "window": "P30D"}``). Its parameters are parsed once, by its own entry here, into a frozen
object of its own type; how it decides is registered beside the decision (``qis.domain.reconciliation``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from qis.domain.errors import refuse
from qis.domain.fusion.learned import parse_learned
from qis.domain.series import check_choice, check_fields


class Parameters(Protocol):
    """Parameters of a method: frozen, comparable, and able to say what they were parsed from."""

    def as_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Method:
    """A method and its parameters; ``None`` where it takes none or none were given."""

    name: str
    parameters: Parameters | None = None

    def as_json(self) -> Any:
        given = {} if self.parameters is None else self.parameters.as_json()
        return {"name": self.name, **given} if given else self.name


def no_parameters(given: Mapping[str, Any], field: str) -> None:
    """The parser of a method that takes none."""
    check_fields(given, field, set(), set())


PRECEDENCE, MEDIAN = "precedence", "median"
LEARNING = ("consensus", "vote", "accu", "truth-finder", "crh", "weighted-median", "volume-weighted-median")
"""Methods of ``qis.domain.fusion``: they weigh sources, by what their parameters say was learned of them."""
PARSERS: dict[str, Callable[[Mapping[str, Any], str], Parameters | None]] = {
    PRECEDENCE: no_parameters,
    MEDIAN: no_parameters,
    **dict.fromkeys(LEARNING, parse_learned),
}
"""Parser of each method's parameters, given without its name, and the field to name in a refusal."""


def parse_method(value: object, field: str) -> Method:
    """A method by name, or an object of its name and parameters.

    Raises:
        InvalidInput: unknown method, unknown or malformed parameter.
    """
    if isinstance(value, dict):
        name = value.get("name")
        if name is None:
            raise refuse(f"{field}.name", "", "required", "is required")
        given = {k: v for k, v in value.items() if k != "name"}
    else:
        name, given = value, {}
    name = check_choice(name, field, tuple(PARSERS))
    return Method(name, PARSERS[name](given, field))
