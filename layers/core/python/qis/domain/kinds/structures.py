"""The structure of a series, from its kind and settings."""

from __future__ import annotations

from qis.domain.kinds.record import Structure
from qis.domain.series import Kind


def parse_structure(kind: Kind, given: object, where: str = "record") -> Structure:
    """The structure that the records of a series have.

    Raises:
        InvalidInput: the settings break a rule of the kind.
    """
    # Each kind's module is read where a series of the kind is.
    match kind:
        case Kind.OPTIONS_CHAIN:
            from qis.domain.kinds.options import parse_chain

            return parse_chain(given, where)
        case Kind.CORPORATE_ACTION:
            from qis.domain.kinds.actions import parse_actions

            return parse_actions(given, where)
        case Kind.CURVE:
            from qis.domain.kinds.curves import parse_curve

            return parse_curve(given, where)
        case Kind.MATRIX:
            from qis.domain.kinds.curves import parse_matrix

            return parse_matrix(given, where)
        case Kind.JSON:
            from qis.domain.kinds.documents import parse_document

            return parse_document(given, where)
        case _:
            raise ValueError(f"a {kind.value} is a number")
