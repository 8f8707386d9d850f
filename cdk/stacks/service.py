"""What works on the data: functions, what starts them, the API, and the alarms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aws_cdk import Duration, triggers
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from cdk.constructs.alarms import Alarms
from cdk.constructs.api import Api
from cdk.constructs.code import Code
from cdk.constructs.database import FUNCTION_USER, MIGRATE_USER, NAME
from cdk.constructs.events import CONSUMERS
from cdk.constructs.function import HouseFunction
from cdk.constructs.house import acknowledge
from cdk.constructs.push import PushApi
from cdk.constructs.release import Releases
from cdk.stacks.data import Data
from qis.application import arrivals, issues, quality
from qis.application.push import PUSHED
from qis.domain.events import DATA_INGESTED
from qis.domain.public_events import PUBLIC, SEVERAL


class Service(Construct):
    """The functions of the spine, and who may do what: each grant is a line here."""

    def __init__(
        self, scope: Construct, id_: str, *, data: Data, code: Code, document: Mapping[str, Any]
    ) -> None:
        super().__init__(scope, id_)
        self._data = data
        self._code = code
        self._layers = [
            self._layer("LayerCore", code.core, "the library qis"),
            self._layer("LayerDependencies", code.dependencies, "packages of all functions"),
        ]
        self.push = PushApi(self, "Push", house=data.house)
        self.functions = self._functions()
        self._grants()
        self._event_sources()
        self._schedules()
        self.api = Api(
            self,
            "Api",
            house=data.house,
            document=document,
            functions=self.functions,
            user_pool_arn=data.user_pool_arn,
        )
        self.push.connect(self.functions["realtime"], rest=self.api.rest)
        self.alarms = self._alarms()
        # A second region's database takes no changes before a failover; it has the schema of the first.
        if not data.house.settings.embedded and data.house.settings.active:
            self._migrate_first(self.api)

    def _layer(self, id_: str, path: Path, what: str) -> lambda_.LayerVersion:
        settings = self._data.house.settings
        return lambda_.LayerVersion(
            self,
            id_,
            layer_version_name=self._data.house.name(id_.removeprefix("Layer").lower()),
            description=what,
            code=lambda_.Code.from_asset(str(path)),
            compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
            compatible_architectures=[
                lambda_.Architecture.ARM_64
                if settings.architecture == "arm64"
                else lambda_.Architecture.X86_64
            ],
        )

    def _functions(self) -> dict[str, HouseFunction]:
        data, at = self._data, self._data.endpoints
        database = data.house.settings.database
        common = {"environment": data.house.settings.name}
        store = common | {
            "database_host": at.shared_database_host,
            "database_port": at.database_port,
            "database_name": NAME,
            "database_user": FUNCTION_USER,
            "database_auth": at.database_auth,
        }
        tokens = {
            "jwks_url": at.jwks_url,
            "token_issuer": at.token_issuer,
            "token_audience": at.token_audience,
        }
        audit = data.streams.others.get("audit")
        values: dict[str, dict[str, str]] = {
            "ingest": store
            | tokens
            | {
                "raw_bucket": data.storage.raw.bucket_name,
                "ingest_dlq_url": data.events.ingest_dlq.queue_url,
            },
            "reconcile": store,
            "publish": common | {"bus_name": data.events.bus.event_bus_name},
            "quality": store | {"window_seconds": "60"},  # alarms count minutes
            "query": store
            | tokens
            | {
                "cache_url": at.cache_url,
                "cache_group": data.house.name("hot") if data.caches else "",
                "cache_user": data.caches.user if data.caches else "",
            },
            # These hold a session, which a proxy would have to pin.
            "realtime": store
            | tokens
            | {
                "database_host": at.database_host,
                "push_endpoint": at.push_endpoint or self.push.endpoint,
            },
            "relay": store
            | {
                "database_host": at.database_host,
                "events_stream": data.streams.events.stream_name,
                "end_transactions_after": str(database.end_transactions_after if database else 0),
                "audit_stream": audit.stream_name if audit else "",
            },
            "migrate": store
            | {
                "database_host": at.database_host,
                "database_user": MIGRATE_USER,
            },
        }
        return {name: self._function(name, given) for name, given in values.items()}

    def _function(self, name: str, values: Mapping[str, str]) -> HouseFunction:
        layers = self._layers
        if name == "migrate":
            layers = [*layers, self._layer("LayerMigrate", self._code.migrate, "the migration tool")]
        return HouseFunction(
            self,
            name.capitalize(),
            house=self._data.house,
            name=name,
            code=lambda_.Code.from_asset(str(self._code.functions[name])),
            layers=layers,
            values=values,
            segment=self._data.endpoints.segment,
        )

    def _grants(self) -> None:
        data, at, functions = self._data, self._data.endpoints, self.functions
        if at.app_user_arn and at.shared_app_user_arn and at.migrate_user_arn:
            for name in ("ingest", "reconcile", "quality", "query"):
                functions[name].allow(["rds-db:connect"], at.shared_app_user_arn)
            for name in ("relay", "realtime"):
                functions[name].allow(["rds-db:connect"], at.app_user_arn)
            functions["migrate"].allow(["rds-db:connect"], at.migrate_user_arn)
        if data.caches:
            functions["query"].allow(["elasticache:Connect"], *data.caches.connect_arns("hot"))
        functions["ingest"].allow_send(data.events.ingest_dlq)
        functions["relay"].allow(["s3:PutObject"], data.storage.raw_objects_arn)
        acknowledge(functions["relay"].policy, data.storage.names_not_known_before)
        functions["relay"].allow_key("kms:Decrypt", "kms:GenerateDataKey")
        functions["publish"].allow(["events:PutEvents"], data.events.bus.event_bus_arn)
        functions["relay"].allow_put(data.streams.events)
        if audit := data.streams.others.get("audit"):
            functions["relay"].allow_put(audit)

    def _event_sources(self) -> None:
        data, sources = self._data, self._data.house.settings.event_sources
        self.functions["ingest"].read_from(
            data.streams.ingest, source=sources["ingest"], on_failure=data.events.ingest_dlq
        )
        types = {
            "reconcile": (DATA_INGESTED,),
            "publish": tuple(PUBLIC),
            "quality": tuple(sorted(arrivals.FOLLOWED | issues.FOLLOWED | quality.FOLLOWED)),
            "realtime": PUSHED,
        }
        for name, wanted in types.items():
            self.functions[name].read_from(
                data.streams.events,
                source=sources[name],
                on_failure=data.events.events_dlq,
                event_types=(*wanted, SEVERAL),
            )

    def _schedules(self) -> None:
        failed = self._data.events.bus_dlq
        self.functions["quality"].run_each(
            Duration.minutes(1), description="What is due about issues, scores and windows", failed=failed
        )
        self.functions["realtime"].run_each(
            Duration.minutes(1), description="Heartbeats, and the end of connections", failed=failed
        )
        self.functions["relay"].run_each(
            Duration.minutes(1),
            description="Keep the event log flowing to its stream",
            failed=failed,
            at_once=True,
        )

    def _alarms(self) -> Alarms:
        events = self._data.events
        alarms = Alarms(self, "Alarms", house=self._data.house)
        alarms.failed_messages("ingest-dlq", events.ingest_dlq)
        alarms.failed_messages("events-dlq", events.events_dlq)
        alarms.failed_messages("bus-dlq", events.bus_dlq)
        for name in CONSUMERS:
            alarms.slow_consumer(f"consumer-{name}", events.consumers[name])
        release = self._data.house.settings.release
        releases = Releases(self, "Releases", house=self._data.house, settings=release) if release else None
        for name, function in self.functions.items():
            errors = alarms.errors(function)
            if releases and name != "migrate":  # which runs once a deployment, before the others change
                releases.watch(function, [errors])
        for name in self._data.house.settings.event_sources:
            alarms.iterator_age(self.functions[name])
        for delivery in self._data.lake_feed.deliveries if self._data.lake_feed else ():
            alarms.delivery(delivery)
        alarms.event_log()
        alarms.push(self.push)
        alarms.quality()
        alarms.pipeline(self.functions["reconcile"].function)
        alarms.tell_of_issues(events.bus, events.bus_dlq)
        return alarms

    def _migrate_first(self, api: Api) -> None:
        """Migrations run in the deployment, before any other function is made or changed: when one fails,
        the old code is still there with the schema that it knows."""
        others = [function for name, function in self.functions.items() if name != "migrate"]
        triggers.Trigger(
            self,
            "MigrateNow",
            handler=self.functions["migrate"].function,
            timeout=Duration.seconds(self._data.house.settings.functions["migrate"].timeout_seconds),
            execute_before=[*others, api, self.push],
        )
