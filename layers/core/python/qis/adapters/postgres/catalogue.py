"""The catalogue as the functions see it: read whole when its revision changed, else kept."""

from __future__ import annotations

from collections.abc import Callable

from qis.adapters.postgres.connection import Database
from qis.application.ports import Catalogue
from qis.domain.checks import Check, parse_check
from qis.domain.rules import Layer, RuleBook, parse_layer
from qis.domain.series import Series, Source, parse_series, parse_source

CHECK_EVERY = 0.25
"""Seconds for which a revision is trusted without asking again."""


class PostgresCatalogue:
    """``CatalogueReader`` on PostgreSQL. ``monotonic`` gives seconds."""

    def __init__(self, database: Database, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._monotonic = monotonic
        self._kept: Catalogue | None = None
        self._checked = float("-inf")

    def current(self) -> Catalogue:
        """See ``CatalogueReader.current``. At most ``CHECK_EVERY`` seconds old."""
        now = self._monotonic()
        if self._kept is not None and now - self._checked < CHECK_EVERY:
            return self._kept
        connection = self._database.connect()
        row = connection.execute("SELECT revision FROM catalogue_revision").fetchone()
        assert row is not None
        if self._kept is None or self._kept.revision != row[0]:
            rows = connection.execute(
                "SELECT kind, version, definition FROM catalogue WHERE kind <> 'rules'"
                " UNION ALL SELECT 'rules', version, definition FROM rule_versions"
            ).fetchall()
            series: dict[str, Series] = {}
            sources: dict[str, Source] = {}
            layers: list[Layer] = []
            checks: dict[str, Check] = {}
            for kind, version, definition in rows:
                if kind == "series":
                    one = parse_series(definition)
                    series[one.reference_data_id] = one
                elif kind == "source":
                    source = parse_source(definition)
                    sources[source.source] = source
                elif kind == "check":
                    check = parse_check(definition)
                    checks[check.check] = check
                else:
                    layers.append(parse_layer(definition, version))
            active = {name: source.active for name, source in sources.items()}
            self._kept = Catalogue(row[0], series, sources, RuleBook(layers), active, checks)
        self._checked = now
        return self._kept

    def newest(self) -> Catalogue:
        """See ``CatalogueReader.newest``."""
        self._checked = float("-inf")
        return self.current()
