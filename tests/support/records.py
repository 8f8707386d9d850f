"""Series of records and documents for them: small ones of our own making."""

from __future__ import annotations

from typing import Any

from qis.domain.claims import Claim, parse_claim
from qis.domain.rules import RuleSet, parse_rules
from qis.domain.series import Series, parse_series
from tests.support.builders import SOURCES

CHAIN, ACTION, CURVE, SURFACE, NOTICE = (
    "OPT.XMPL",
    "CA.XMPL.DIV",
    "CURVE.XMPL",
    "VOL.XMPL",
    "NOTICE.XMPL",
)
AT = "2026-01-05T21:00:00Z"
EXPIRY = "260220"


def rules_body(**changes: Any) -> dict[str, Any]:
    """Rules for records: precedence, 0.1 % tolerance, one source suffices."""
    return {
        "rules": "records",
        "method": "precedence",
        "precedence": ["alpha", "beta", "gamma"],
        "tolerance": "0.001",
        "min_sources": 1,
        "fallback": "median",
        **changes,
    }


def rules(**changes: Any) -> RuleSet:
    """Those rules, typed."""
    return parse_rules(rules_body(**changes), 1)


_KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    CHAIN: (
        "options_chain",
        {"currency": "USD"},
        {
            "underlying": "XMPL",
            "exercise": "european",
            "rate": "0.04",
            "dividend_yield": "0",
            "slack": "0.05",
        },
    ),
    ACTION: ("corporate_action", {}, {"instrument": "XMPL"}),
    CURVE: (
        "curve",
        {"unit": "percent"},
        {
            "quantity": "zero_rate",
            "day_count": "ACT/365F",
            "compounding": "continuous",
            "tenors": ["3M", "1Y"],
            "max_step": "1",
        },
    ),
    SURFACE: (
        "matrix",
        {"unit": "fraction"},
        {"quantity": "implied_volatility", "rows": "tenor", "columns": "number"},
    ),
    NOTICE: (
        "json",
        {},
        {
            "schema": {
                "type": "object",
                "required": ["issuer", "coupon"],
                "properties": {
                    "issuer": {"type": "string", "maxLength": 40},
                    "coupon": {"type": "number", "minimum": 0},
                    "callable": {"type": "boolean"},
                    "tranches": {"type": "array", "items": {"type": "integer"}},
                },
                "additionalProperties": False,
            }
        },
    ),
}


def series_body(reference_data_id: str, **record: Any) -> dict[str, Any]:
    """A series of records as it comes by REST, its settings changed by ``record``."""
    kind, semantics, settings = _KINDS[reference_data_id]
    return {
        "reference_data_id": reference_data_id,
        "name": "An example",
        "kind": kind,
        "rules": "records",
        "semantics": {"price_type": "record", "timing": "point_in_time", **semantics},
        "record": {**settings, **record},
    }


def series(reference_data_id: str, **record: Any) -> Series:
    """That series, typed."""
    return parse_series(series_body(reference_data_id, **record))


def symbol(right: str, strike: int) -> str:
    """An OCC symbol of the example chain."""
    return f"XMPL  {EXPIRY}{right}{strike * 1000:08d}"


def contract(right: str, strike: int, bid: str, ask: str, **more: Any) -> dict[str, Any]:
    """One contract of a chain."""
    return {"symbol": symbol(right, strike), "bid": bid, "ask": ask, **more}


def chain(**changes: Any) -> dict[str, Any]:
    """A chain that holds together: spot 100, three strikes."""
    return {
        "spot": "100.00",
        "contracts": [
            contract("C", 95, "6.60", "6.80"),
            contract("P", 95, "1.10", "1.20"),
            contract("C", 100, "3.60", "3.70", volume="12"),
            contract("P", 100, "3.00", "3.20"),
            contract("C", 105, "1.70", "1.80"),
            contract("P", 105, "6.10", "6.30"),
        ],
        **changes,
    }


def dividend(**changes: Any) -> dict[str, Any]:
    """A cash dividend."""
    return {
        "type": "cash_dividend",
        "lifecycle": "N",
        "announced": "2026-01-02",
        "ex_date": "2026-01-05",
        "record_date": "2026-01-06",
        "pay_date": "2026-01-20",
        "amount": "0.2500",
        "currency": "USD",
        **changes,
    }


def curve(**nodes: Any) -> dict[str, Any]:
    """A curve of three nodes."""
    return {"nodes": {"3M": "4.10", "1Y": "4.00", "10Y": "4.35", **nodes}}


def surface() -> dict[str, Any]:
    """A volatility surface of two by two."""
    return {"rows": ["1M", "3M"], "columns": ["90", "100"], "values": [["0.24", "0.20"], ["0.23", None]]}


def notice(**changes: Any) -> dict[str, Any]:
    """A free document."""
    return {"issuer": "Example plc", "coupon": "5.250", "callable": True, "tranches": [1, 2], **changes}


EXAMPLES: dict[str, dict[str, Any]] = {
    CHAIN: chain(),
    ACTION: dividend(),
    CURVE: curve(),
    SURFACE: surface(),
    NOTICE: notice(),
}


def record_body(reference_data_id: str, source: str, value: Any, **more: Any) -> dict[str, Any]:
    """A claim of a record as it comes by stream or REST."""
    return {"snap": AT, "reference_data_id": reference_data_id, "source": source, "value": value, **more}


def record_claim(
    reference_data_id: str, source: str, value: Any, settings: dict[str, Any] | None = None, **more: Any
) -> Claim[Any]:
    """That claim, typed."""
    body = record_body(reference_data_id, source, value, **more)
    of = {reference_data_id: series(reference_data_id, **(settings or {}))}
    return parse_claim(body, of, dict.fromkeys(SOURCES, True))
