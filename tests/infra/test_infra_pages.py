"""The page of each environment and its picture are those of the templates."""

from __future__ import annotations

import re

from cdk.environments import load
from cdk.pages import PAGES, about, page
from cdk.picture import mermaid
from tests.infra.synthesis import Environment


def test_the_committed_page_is_current(in_aws: Environment) -> None:
    committed = (PAGES / f"{in_aws.name}.md").read_text(encoding="utf-8")
    settings = load(in_aws.name)
    assert committed == page(settings, in_aws.templates, about(in_aws.name)), "run python -m cdk.pages"


def test_the_picture_shows_the_spine(environment: Environment) -> None:
    picture = mermaid(environment.templates, load(environment.name).stem)
    labels = dict(re.findall(r'^    (\w+)\["[^<]+<br/>([^"]+)"\]$', picture, re.MULTILINE))
    arrows = {
        (labels[a], what, labels[b])
        for a, what, b in re.findall(r"^  (\w+) -->\|([a-z ]+)\| (\w+)$", picture, re.MULTILINE)
    }
    assert {
        ("ingest", "feeds", "ingest"),
        ("relay", "puts", "events"),
        ("events", "feeds", "reconcile"),
        ("events", "feeds", "publish"),
        ("publish", "publishes", "bus"),
        ("bus", "rule", "consumer-risk"),
        ("api", "routes", "query"),
        ("ingest", "failed", "ingest-dlq"),
    } <= arrows
    assert ("query", "puts", "events") not in arrows


def test_an_arrow_is_gone_when_its_source_is(environment: Environment) -> None:
    templates = {
        name: {
            "Resources": {
                i: r
                for i, r in t["Resources"].items()
                if r["Type"]
                not in ("AWS::Lambda::EventSourceMapping", "AWS::KinesisFirehose::DeliveryStream")
            }
        }
        for name, t in environment.templates.items()
    }
    assert "feeds" not in mermaid(templates, load(environment.name).stem)
