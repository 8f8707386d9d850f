"""EventBridge: the bus of official values, a rule and a queue per consuming domain."""

from __future__ import annotations

from collections.abc import Iterable

from aws_cdk import Aws, Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_eventschemas as schemas
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from cdk.constructs.house import House
from cdk.constructs.queues import queue
from cdk.environments.traffic import Bus
from qis.domain.events import VERSIONS, cloud_event_type
from qis.domain.public_events import TOLD, VALUES

CONSUMERS = {"strategy": VALUES, "risk": VALUES, "analytics": VALUES, "operations": TOLD}
"""Consuming domains, each with the events that it gets."""


def detail_types(types: Iterable[str]) -> list[str]:
    """How the events are named on the bus."""
    return [cloud_event_type(t, VERSIONS[t]) for t in types]


class Events(Construct):
    """Bus, consumer queues, and the queues of what failed."""

    def __init__(self, scope: Construct, id_: str, *, house: House) -> None:
        super().__init__(scope, id_)
        self.bus = events.EventBus(self, "Bus", event_bus_name=house.name("bus"))
        self.bus_dlq = queue(self, "BusDlq", house=house, logical="bus-dlq", from_eventbridge=True)
        self.ingest_dlq = queue(self, "IngestDlq", house=house, logical="ingest-dlq", from_eventbridge=False)
        self.events_dlq = queue(self, "EventsDlq", house=house, logical="events-dlq", from_eventbridge=False)
        self.consumers: dict[str, sqs.Queue] = {
            name: self._consumer(name, types, house=house) for name, types in CONSUMERS.items()
        }
        if house.settings.bus:
            self._beyond(house.settings.bus, house=house)
        # The schedules of the functions are rules too. They live with the functions; naming them here by
        # pattern keeps this queue's policy independent of them.
        self.bus_dlq.add_to_resource_policy(
            iam.PolicyStatement(
                sid="FailedSchedules",
                principals=[iam.ServicePrincipal("events.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[self.bus_dlq.queue_arn],
                conditions={"ArnLike": {"aws:SourceArn": house.arn("events", f"rule/{house.name('*')}")}},
            )
        )

    def _beyond(self, bus: Bus, *, house: House) -> None:
        """What the twin has not: the archive that events are replayed from, subscribers in other accounts,
        and the schemas of what went over the bus."""
        self.bus.archive(
            "Archive",
            archive_name=house.name("archive"),
            description="Everything that went over the bus, to be replayed",
            event_pattern=events.EventPattern(account=[Aws.ACCOUNT_ID]),
            retention=Duration.days(bus.archive_days),
        )
        for account in bus.subscribers:
            # They make, pay for and delete their own rules, for official values only, and see no other's.
            events.CfnEventBusPolicy(
                self,
                f"Subscriber{account}",
                event_bus_name=self.bus.event_bus_name,
                statement_id=f"Subscriber{account}",
                statement={
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:{Aws.PARTITION}:iam::{account}:root"},
                    "Action": [
                        "events:PutRule",
                        "events:DeleteRule",
                        "events:DescribeRule",
                        "events:DisableRule",
                        "events:EnableRule",
                        "events:PutTargets",
                        "events:RemoveTargets",
                        "events:ListTargetsByRule",
                    ],
                    "Resource": house.arn("events", f"rule/{house.name('bus')}/*"),
                    "Condition": {
                        "StringEqualsIfExists": {
                            "events:creatorAccount": account,
                            "events:detail-type": detail_types(VALUES),
                        }
                    },
                },
            )
        if bus.schemas:
            schemas.CfnDiscoverer(
                self,
                "Schemas",
                source_arn=self.bus.event_bus_arn,
                description="Schemas of the events, read from the events themselves",
                cross_account=False,
            )

    def _consumer(self, name: str, types: Iterable[str], *, house: House) -> sqs.Queue:
        made = queue(
            self,
            f"Consumer{name.capitalize()}",
            house=house,
            logical=f"consumer-{name}",
            from_eventbridge=True,
        )
        events.Rule(
            self,
            f"To{name.capitalize()}",
            rule_name=house.name(f"to-{name}"),
            event_bus=self.bus,
            description=f"What {name} needs to know",
            event_pattern=events.EventPattern(detail_type=detail_types(types)),
            targets=[
                targets.SqsQueue(
                    made,
                    dead_letter_queue=self.bus_dlq,
                    retry_attempts=10,
                    max_event_age=Duration.hours(1),
                )
            ],
        )
        return made
