"""What holds data: streams, queues, bus, bucket and, outside the local twin, network, database, identity."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import CfnParameter
from constructs import Construct

from cdk.constructs.cache import Caches
from cdk.constructs.database import FUNCTION_USER, MIGRATE_USER, Database
from cdk.constructs.documents import Documents
from cdk.constructs.events import Events
from cdk.constructs.files import Files
from cdk.constructs.function import Segment
from cdk.constructs.house import House
from cdk.constructs.identity import Identity
from cdk.constructs.kafka import Kafka
from cdk.constructs.keys import Keys
from cdk.constructs.lake_feed import LakeFeed
from cdk.constructs.lake_questions import LakeQuestions
from cdk.constructs.network import Network
from cdk.constructs.search import Search
from cdk.constructs.secrets import Secrets
from cdk.constructs.storage import Lake, Storage
from cdk.constructs.streams import Streams
from cdk.constructs.time_series import InfluxSeries, LiveSeries
from cdk.environments.settings import Settings
from cdk.environments.stores import Influx, LiveAnalytics


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where the functions find what they use."""

    database_host: str
    shared_database_host: str
    """The same database by way of the proxy, where there is one: for functions that run many at a time."""
    database_port: str
    database_auth: str
    cache_url: str
    jwks_url: str
    token_issuer: str
    token_audience: str
    push_endpoint: str | None
    """Where connections of the WebSocket API are managed; ``None``: the API itself knows."""
    app_user_arn: str | None
    """What a function may connect to the database as; none where no sign-in is checked."""
    shared_app_user_arn: str | None
    migrate_user_arn: str | None
    segment: Segment | None


class Data(Construct):
    """Everything that must survive the service's stack."""

    def __init__(self, scope: Construct, id_: str, *, settings: Settings) -> None:
        super().__init__(scope, id_)
        keys = (
            None
            if settings.encryption is None
            else Keys(self, "Keys", settings=settings, encryption=settings.encryption)
        )
        self.house = House(
            settings=settings, data_key=keys.data if keys else None, logs_key=keys.logs if keys else None
        )
        self.streams = Streams(self, "Streams", house=self.house)
        self.events = Events(self, "Events", house=self.house)
        self.storage = Storage(self, "Storage", house=self.house)
        self.user_pool_arn: str | None = None
        self.network: Network | None = None
        self.database: Database | None = None
        self.caches: Caches | None = None
        self.files: Files | None = None
        self.lake = (
            Lake(self, "Lake", house=self.house, settings=settings.lake, logs=self.storage.logs)
            if settings.lake
            else None
        )
        self.lake_feed: LakeFeed | None = None
        self._questions: LakeQuestions | None = None
        if settings.lake and self.lake:
            self.lake_feed = LakeFeed(
                self,
                "LakeFeed",
                house=self.house,
                settings=settings.lake,
                lake=self.lake,
                bus=self.events,
                streams=self.streams,
            )
            self._questions = LakeQuestions(
                self,
                "LakeQuestions",
                house=self.house,
                settings=settings.lake,
                lake=self.lake,
                tables=self.lake_feed.tables,
                logs_bucket=self.storage.logs,
            )
        self.endpoints = self._parameters() if settings.embedded else self._parts(settings)

    def _parameters(self) -> Endpoints:
        """The local twin fills these in when it starts its own parts."""
        host = _parameter(self, "DatabaseHost", "Host of the embedded PostgreSQL")
        return Endpoints(
            database_host=host,
            shared_database_host=host,
            database_port=_parameter(self, "DatabasePort", "Port of the embedded PostgreSQL"),
            database_auth="trust",
            cache_url=_parameter(self, "CacheUrl", "Address of the embedded Valkey"),
            jwks_url=_parameter(self, "JwksUrl", "Address of the key set that signs local tokens"),
            token_issuer="https://qis.local",  # noqa: S106 -- a name, not a secret
            token_audience="qis-api",  # noqa: S106 -- a name, not a secret
            push_endpoint=_parameter(
                self, "PushEndpoint", "Where connections of the push channel are managed"
            ),
            app_user_arn=None,
            shared_app_user_arn=None,
            migrate_user_arn=None,
            segment=None,
        )

    def _parts(self, settings: Settings) -> Endpoints:
        # Settings has refused this environment already if one of these is missing.
        assert settings.network is not None
        assert settings.database is not None
        assert settings.identity is not None
        network = Network(self, "Network", house=self.house, settings=settings.network)
        database = Database(
            self,
            "Database",
            house=self.house,
            settings=settings.database,
            network=network,
            lake=self.lake,
        )
        self.network, self.database = network, database
        self._optional(settings, network)
        if settings.caches:
            self.caches = Caches(self, "Caches", house=self.house, settings=settings.caches, network=network)
        identity = Identity(self, "Identity", house=self.house, settings=settings.identity)
        self.user_pool_arn = identity.pool.user_pool_arn
        if self._questions and identity.members:
            self._questions.let_ask(identity.members)
        return Endpoints(
            database_host=database.host,
            shared_database_host=database.shared_host,
            database_port=str(settings.database.port),
            database_auth="iam",
            cache_url=self.caches.url("hot") if self.caches else "",
            jwks_url=identity.jwks_url,
            token_issuer=identity.issuer,
            token_audience=identity.audience,
            push_endpoint=None,
            app_user_arn=database.user_arn(FUNCTION_USER),
            shared_app_user_arn=database.shared_user_arn(FUNCTION_USER),
            migrate_user_arn=database.user_arn(MIGRATE_USER),
            segment=network.segment,
        )

    def _optional(self, settings: Settings, network: Network) -> None:
        """What the spine does without, where an environment has it."""
        house = self.house
        if settings.secrets:
            Secrets(self, "Secrets", house=house, settings=settings.secrets)
        if settings.documents:
            Documents(self, "Documents", house=house, settings=settings.documents, network=network)
        if isinstance(settings.time_series, Influx):
            InfluxSeries(self, "Series", house=house, settings=settings.time_series, network=network)
        if isinstance(settings.time_series, LiveAnalytics):
            assert self.lake is not None, "settings refuse this"
            LiveSeries(
                self, "Series", house=house, settings=settings.time_series, rejected=self.lake.rejected
            )
        if settings.kafka:
            Kafka(self, "Kafka", house=house, settings=settings.kafka, network=network)
        if settings.search:
            Search(self, "Search", house=house, settings=settings.search, network=network)
        if settings.files:
            self.files = Files(self, "Files", house=house, settings=settings.files, network=network)


def _parameter(scope: Construct, name: str, description: str) -> str:
    parameter = CfnParameter(scope, name, type="String", description=description)
    parameter.override_logical_id(name)
    return parameter.value_as_string
