"""What guards, watches, restores and pays: beside the service, not in its way."""

from __future__ import annotations

import typing

from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.constructs.alarms import Alarms
from cdk.constructs.canary import Canary
from cdk.constructs.cluster import Cluster
from cdk.constructs.edge import Edge
from cdk.constructs.house import acknowledge
from cdk.constructs.observability import Observability
from cdk.constructs.recovery import Recovery
from cdk.constructs.spending import Spending
from cdk.stacks.data import Data
from cdk.stacks.service import Service


class Operations(Construct):
    """Each part that the settings name."""

    def __init__(self, scope: Construct, id_: str, *, data: Data, service: Service) -> None:
        super().__init__(scope, id_)
        house, settings = data.house, data.house.settings
        assert data.network is not None
        assert data.database is not None
        alarms = Alarms(self, "Alarms", house=house, topic=service.alarms.topic)
        edge = (
            Edge(
                self,
                "Edge",
                house=house,
                settings=settings.edge,
                alarms=alarms,
                api=service.api.rest,
                vpc=data.network.vpc,
                domain=settings.api.domain,
            )
            if settings.edge
            else None
        )
        if settings.observability:
            Observability(
                self,
                "Observability",
                house=house,
                settings=settings.observability,
                alarms=alarms,
                api=service.api.rest,
                functions=service.functions,
                streams=[data.streams.ingest, data.streams.events],
                file_system=data.files.system.file_system_id if data.files else None,
            )
            if settings.observability.canary and edge:
                Canary(self, "Canary", house=house, url=f"https://{edge.host}/ready", alarms=alarms)
        if settings.recovery:
            Recovery(
                self,
                "Recovery",
                house=house,
                settings=settings.recovery,
                alarms=alarms,
                vpc=data.network.vpc,
                database=data.database,
            )
        if settings.cost:
            Spending(self, "Spending", house=house, settings=settings.cost)


class Workloads(Construct):
    """The cluster, and what its workloads may do: each grant is a line here."""

    def __init__(self, scope: Construct, id_: str, *, data: Data) -> None:
        super().__init__(scope, id_)
        house = data.house
        assert house.settings.cluster is not None
        assert data.network is not None
        ingest, events, audit = data.streams.ingest, data.streams.events, data.streams.others.get("audit")
        written = [stream.stream_arn for stream in (events, audit) if stream]
        store = _may(["rds-db:connect"], typing.cast(str, data.endpoints.app_user_arn))
        keys = house.key_use("kms:Decrypt", "kms:GenerateDataKey")
        cluster = Cluster(
            self,
            "Cluster",
            house=house,
            settings=house.settings.cluster,
            vpc=data.network.vpc,
            grants={
                "feeds": [_may(["kinesis:PutRecord", "kinesis:PutRecords"], ingest.stream_arn), *keys],
                "relay": [
                    _may(["kinesis:PutRecords"], *written),
                    _may(["s3:PutObject"], data.storage.raw_objects_arn),
                    store,
                    *keys,
                ],
                "batch": [store, *keys],
            },
        )
        acknowledge(cluster.policies["relay"], data.storage.names_not_known_before)


def _may(actions: list[str], *resources: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=actions, resources=list(resources))
