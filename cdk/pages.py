"""A page and a picture for each environment: what it has, costs, and where its limits are.

``python -m cdk.pages`` writes ``docs/environments`` anew; a test checks that it is current.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cdk.constructs.code import ROOT
from cdk.environments.settings import Settings
from cdk.node import use_packaged_node
from cdk.picture import Templates, mermaid
from qis.cli.cost import model

PAGES = ROOT / "docs" / "environments"


def page(settings: Settings, templates: Templates, about: str) -> str:
    """One environment's page."""
    lines = [
        f"# Environment {settings.name}",
        "",
        "Made by `python -m cdk.pages` from the settings and the templates.",
        "",
        about.strip(),
        "",
        *_has(settings, templates),
        *_costs(settings),
        *_limits(settings),
        "## Picture",
        "",
        "Drawn from the templates; an arrow is an event source, a rule, a route, an origin or a right.",
        "",
        "```mermaid",
        mermaid(templates, settings.stem).rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _has(settings: Settings, templates: Templates) -> Iterator[str]:
    yield "## What it has"
    yield ""
    yield f"Region {settings.region}. " + (
        f"Copies to {settings.copies_to.environment} in {settings.copies_to.region}."
        if settings.copies_to
        else f"The copy of {settings.copy_of.environment} in {settings.copy_of.region}."
        if settings.copy_of
        else "No second region."
    )
    yield ""
    yield "| stack | resources |"
    yield "|---|---|"
    for name, template in sorted(templates.items()):
        yield f"| `{name}` | {len(template['Resources'])} |"
    yield ""
    yield "| service | resources |"
    yield "|---|---|"
    counted = Counter(
        resource["Type"].split("::")[1] for t in templates.values() for resource in t["Resources"].values()
    )
    for service, count in sorted(counted.items()):
        yield f"| {service} | {count} |"
    yield ""


def _costs(settings: Settings) -> Iterator[str]:
    found = model.estimate(settings.name, claims_per_second=0, queries_per_second=0)
    yield "## What it costs"
    yield ""
    yield (
        f"Before traffic ${found.idle_usd:,.0f} a month at list prices of {found.as_of} in {found.region}"
        + (f"; the budget is ${found.budget_usd:,.0f}." if found.budget_usd is not None else ".")
    )
    yield f"`qis cost --env {settings.name}` has every line."
    yield ""
    yield "| setting | USD a month |"
    yield "|---|---:|"
    for choice, usd in found.choices():
        if usd >= 1:
            yield f"| `{choice}` | {usd:,.2f} |"
    yield ""
    if found.unknown:
        names = sorted({f"{line.service}: {line.what}" for line in found.unknown})
        yield "Not counted, because the price is not known: " + "; ".join(names) + "."
        yield ""


def _limits(settings: Settings) -> Iterator[str]:
    yield "## Its limits"
    yield ""
    yield "| what | limit | comes from |"
    yield "|---|---|---|"
    for stream, of in sorted(settings.streams.items()):
        takes = f"{of.shards * 1000:,} records, {of.shards} MB a second"  # by shard: 1,000 records, 1 MB
        yield f"| into stream `{stream}` | {takes} | `streams.{stream}` |"
    api = settings.api
    yield f"| requests | {api.rate_per_second:,} a second, {api.burst:,} at once | `api` |"
    push = settings.push
    yield f"| push messages | {push.rate_per_second:,} a second, {push.burst:,} at once | `push` |"
    for name, function in sorted(settings.functions.items()):
        yield (
            f"| `{name}` | {function.reserved_concurrency} at once, {function.timeout_seconds} s, "
            f"{function.memory_mb:,} MB | `functions.{name}` |"
        )
    database = settings.database
    if database:
        size = (
            f"{database.serverless.min_acu:g} to {database.serverless.max_acu:g} ACU"
            if database.serverless
            else f"writer {database.writer}, {len(database.readers)} readers"
        )
        yield f"| event store | {size} | `database` |"
        yield f"| going back in time | any second of {database.backup_retention_days} days | `database` |"
    aims = settings.objectives
    if aims:
        lost = f"{aims.rto_minutes} minutes, with at most {aims.rpo_minutes} lost"
        yield f"| event store lost: back in | {lost} ([how](../recovery.md)) | `objectives` |"
    if settings.recovery:
        yield f"| daily recovery points | {settings.recovery.daily_days} days | `recovery` |"
    yield ""


def main() -> int:
    """Write the pages."""
    use_packaged_node()
    from cdk.build import build, served_document
    from cdk.constructs.code import Code
    from cdk.environments import ENVIRONMENTS, load

    PAGES.mkdir(exist_ok=True)
    for name in sorted(set(ENVIRONMENTS) - {"local"}):
        settings = load(name)
        with tempfile.TemporaryDirectory() as outdir:
            app = build(settings, code=Code.stub(), document=served_document(), outdir=Path(outdir))
            templates = {stack.stack_name: stack.template for stack in app.synth().stacks}
        (PAGES / f"{name}.md").write_text(page(settings, templates, about(name)), encoding="utf-8")
    return 0


def about(name: str) -> str:
    """What the module of the environment says of it."""
    module = sys.modules[f"cdk.environments.{name.replace('-', '_')}"]
    return str(module.__doc__)


if __name__ == "__main__":
    sys.exit(main())
