"""From settings to an app with its stacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aws_cdk import App, DefaultStackSynthesizer, Environment, Stack, Tags, Validations
from cdk_nag import AwsSolutionsChecks, NIST80053R5Checks, ServerlessChecks

from cdk.constructs.code import ROOT, Code
from cdk.environments.settings import Settings
from cdk.stacks.data import Data
from cdk.stacks.operations import Operations, Workloads
from cdk.stacks.service import Service

DOCUMENT = ROOT / "layers" / "core" / "python" / "qis" / "api" / "openapi.json"

PACKS = (AwsSolutionsChecks, NIST80053R5Checks, ServerlessChecks)

# Set here and not in cdk.json, so that the template is the same whoever synthesises it.
_FLAGS: dict[str, Any] = {
    # Traces name temporary directories: no two runs would be alike.
    "aws:cdk:disable-creation-stack-traces": True,
    "aws:cdk:disable-stack-trace": True,
    "@aws-cdk/aws-iam:minimizePolicies": True,
    "@aws-cdk/aws-lambda:recognizeLayerVersion": True,
    "@aws-cdk/aws-lambda:recognizeVersionProps": True,
    "@aws-cdk/aws-s3:createDefaultLoggingPolicy": True,
    "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True,
    "@aws-cdk/core:checkSecretUsage": True,
    "@aws-cdk/core:target-partitions": ["aws"],
}


def build(
    settings: Settings,
    *,
    code: Code,
    document: Mapping[str, Any],
    outdir: Path,
    checked: bool = False,
    context: Mapping[str, Any] | None = None,
) -> App:
    """The app of one environment, not yet synthesised.

    The local twin is one stack. Elsewhere data, service, operations and cluster are separate, so that each
    can be deleted and made again without touching data.

    Args:
        checked: synthesis fails on what the CDK's own validator and the packs of cdk-nag find. The tests
            run these once, on their own.
    """
    app = App(
        outdir=str(outdir),
        analytics_reporting=False,
        tree_metadata=False,
        builtin_cloud_formation_validation=checked,
        context=_FLAGS | dict(context or {}),
    )
    if settings.embedded:
        stack = Stack(
            app,
            settings.stem,
            synthesizer=DefaultStackSynthesizer(generate_bootstrap_version_rule=False),
        )
        service_stack = stack
    else:
        # The region is part of the settings, so that nothing is deployed to another by mistake.
        at = Environment(region=settings.region)
        stack = Stack(
            app, f"{settings.stem}-data", env=at, termination_protection=settings.termination_protection
        )
        service_stack = Stack(app, f"{settings.stem}-service", env=at)
    data = Data(stack, "Data", settings=settings)
    service = Service(service_stack, "Service", data=data, code=code, document=document)
    if not settings.embedded:
        at = Environment(region=settings.region)
        operations = Stack(app, f"{settings.stem}-operations", env=at)
        Operations(operations, "Operations", data=data, service=service)
        if settings.cluster:
            Workloads(Stack(app, f"{settings.stem}-cluster", env=at), "Workloads", data=data)
    Tags.of(app).add("qis:environment", settings.name)
    if checked:
        Validations.of(app).add_plugins(*(pack(app) for pack in PACKS))
    return app


def served_document() -> dict[str, Any]:
    """The OpenAPI document that ``query`` serves."""
    document: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return document
