"""An environment of ours as the tests read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdk.environments import load
from cdk.environments.settings import Settings
from cdk.node import use_packaged_node

if TYPE_CHECKING:
    from aws_cdk import App

HERE = Path(__file__).parent
Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Environment:
    """A synthesised environment."""

    name: str
    app: App = field(repr=False)
    outdir: Path
    templates: dict[str, dict[str, Any]] = field(repr=False)
    """By stack name."""

    def of_type(self, *types: str) -> Iterator[tuple[str, Resource]]:
        """Logical id and resource of every resource of one of ``types``, in all stacks."""
        for template in self.templates.values():
            for logical_id, resource in template["Resources"].items():
                if resource["Type"] in types:
                    yield logical_id, resource

    def handlers(self) -> dict[str, Resource]:
        """Properties of our own functions, by name."""
        return {
            r["Properties"]["Handler"].split(".")[1]: r["Properties"]
            for _, r in self.of_type("AWS::Lambda::Function")
            if r["Properties"]["Handler"].startswith("lambdas.")
        }


def synthesise(name: str, outdir: Path, **context: Any) -> Environment:
    """One environment with stand-ins for the code."""
    return synthesise_settings(load(name), outdir, **context)


def synthesise_settings(settings: Settings, outdir: Path, **context: Any) -> Environment:
    """The same for settings that no environment of ours has."""
    use_packaged_node()
    from cdk.build import build, served_document
    from cdk.constructs.code import Code

    app = build(settings, code=Code.stub(), document=served_document(), outdir=outdir, context=context)
    stacks = app.synth().stacks
    return Environment(settings.name, app, outdir, {stack.stack_name: stack.template for stack in stacks})
