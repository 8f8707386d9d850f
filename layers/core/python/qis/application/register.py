"""Register: series, sources and rule sets, each an event of its own stream, in force without a deploy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qis.application.ports import EMPTY, Append, CatalogueReader, Contended, EventStore
from qis.domain import events as ev
from qis.domain.checks import parse_check
from qis.domain.errors import refuse
from qis.domain.rules import layer_json, parse_layer
from qis.domain.rules.book import check_resolver
from qis.domain.series import Kind, Series, parse_series, parse_source


class Register:
    """The use case. One instance per process."""

    def __init__(
        self, store: EventStore, catalogue: CatalogueReader, known_resolver: Callable[[str], bool]
    ) -> None:
        """``known_resolver`` says whether a resolver of concurrent overrides of that name is installed."""
        self._store = store
        self._catalogue = catalogue
        self._known_resolver = known_resolver

    def series(self, body: object, actor: str, correlation_id: str) -> dict[str, Any]:
        """Register a series, or change its name or rules.

        Raises:
            InvalidInput: the definition breaks a rule, names rules that are unknown or cannot be those of
                its kind, or changes what stored values mean (rule ``semantics-fixed``): that is another
                series.
        """
        series = parse_series(body)
        catalogue = self._catalogue.newest()
        if series.rules not in catalogue.rules.names:
            raise refuse("rules", series.rules, "known-rules", "is not a registered rule set")
        catalogue.rules.check_settled(series.rules, of_records=series.structure is not None)
        before = catalogue.series.get(series.reference_data_id)
        if before is not None:
            _check_unchanged(before, series)
        stream = ev.series_stream(series.reference_data_id)
        return self._put(
            stream, ev.SERIES_REGISTERED, ev.SCHEMA_EVOLVED, series.as_json(), actor, correlation_id
        )

    def source(self, body: object, actor: str, correlation_id: str) -> dict[str, Any]:
        """Add a source, or change, pause or resume it.

        Raises:
            InvalidInput: the definition breaks a rule.
        """
        source = parse_source(body)
        stream = ev.source_stream(source.source)
        return self._put(stream, ev.SOURCE_ADDED, ev.SOURCE_CHANGED, source.as_json(), actor, correlation_id)

    def check(self, body: object, actor: str, correlation_id: str) -> dict[str, Any]:
        """Put a business rule, or a new version of it, in force: for values that come or change from now on.

        Raises:
            InvalidInput: the definition breaks a rule.
        """
        check = parse_check(body)
        stream = ev.check_stream(check.check)
        return self._put(stream, ev.CHECK_CHANGED, ev.CHECK_CHANGED, check.as_json(), actor, correlation_id)

    def rules(self, body: object, actor: str, correlation_id: str) -> dict[str, Any]:
        """Put a new version of a rule set in force, for what is decided from now on.

        Raises:
            InvalidInput: the definition breaks a rule, names a resolver that is not installed, or would
                leave a series without settled rules; see ``RuleBook.check``.
        """
        name = parse_layer(body, 1).rules
        stream = ev.rules_stream(name)
        loaded = self._store.load([stream]).get(stream, EMPTY)
        layer = parse_layer(body, loaded.version + 1)
        if loaded.events:
            last = parse_layer(loaded.events[-1].data, layer.version)
            if last == layer:
                return dict(loaded.events[-1].data)
        check_resolver(layer, self._known_resolver)
        self._catalogue.newest().check_rules(layer)
        self._append(stream, loaded.version, ev.RULES_CHANGED, layer_json(layer), actor, correlation_id)
        return layer_json(layer)

    def _put(
        self,
        stream: str,
        first: str,
        later: str,
        definition: Mapping[str, Any],
        actor: str,
        correlation_id: str,
    ) -> dict[str, Any]:
        loaded = self._store.load([stream]).get(stream, EMPTY)
        if not (loaded.events and loaded.events[-1].data == definition):
            type_ = later if loaded.version else first
            self._append(stream, loaded.version, type_, definition, actor, correlation_id)
        return dict(definition)

    def _append(
        self, stream: str, version: int, type_: str, data: Mapping[str, Any], actor: str, correlation_id: str
    ) -> None:
        append = Append(stream, version, [ev.NewEvent(type_, data)], actor, correlation_id)
        if self._store.append([append]):
            raise Contended(f"{stream} was changed by somebody else at the same moment")


def _check_unchanged(before: Series, after: Series) -> None:
    if before.kind is not after.kind:
        raise refuse(
            "kind", after.kind.value, "semantics-fixed", f"is {Kind(before.kind).value} and stays it"
        )
    if before.structure != after.structure:
        raise refuse(
            "record", after.reference_data_id, "semantics-fixed", "stays as registered; use another series"
        )
    if before.semantics != after.semantics:
        raise refuse(
            "semantics", after.reference_data_id, "semantics-fixed", "stay as registered; use another series"
        )
