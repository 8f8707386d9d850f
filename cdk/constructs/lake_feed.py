"""How events get into the lake: official values, issues, audit.

The bus brings official values to Firehose, which writes them as Parquet in the columns of a Glue table.
Issues go by way of the stream ``alerts``, decisions by way of the stream ``audit``, whose files are what came
in, line by line. Every file is under the lock of the lake's bucket from the moment it is written: they are
only ever added. Days are those of delivery, in folders ``year/month/day/hour``, which Athena works out by
itself (partition projection): there is no crawler and nothing to repair.
"""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Aws, Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesis as kinesis
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_logs as logs
from constructs import Construct

from cdk.constructs.buckets import bucket_name
from cdk.constructs.events import Events, detail_types
from cdk.constructs.house import House, acknowledge, finding, id_of
from cdk.constructs.storage import Lake
from cdk.constructs.streams import Streams
from cdk.constructs.tables import AUDIT, ISSUES, OFFICIAL_VALUES, Table
from cdk.environments.stores import Lake as LakeSettings
from qis.domain.public_events import TOLD, VALUES

FIRST_DAY = "2026/01/01"
FILE_MIB = 128
_FOLDER = "!{timestamp:yyyy/MM/dd/HH}/"
_JSON = "org.openx.data.jsonserde.JsonSerDe"
_PARQUET = "org.apache.hadoop.hive.ql.io.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One way into the lake: what is watched of it."""

    table: str
    stream_name: str
    """Of Firehose."""
    converted: bool
    """To Parquet, in the columns of the table."""


_OURS = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
"""A service acts here for our account only."""


class LakeFeed(Construct):
    """Tables, and the deliveries into them."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        settings: LakeSettings,
        lake: Lake,
        bus: Events,
        streams: Streams,
    ) -> None:
        super().__init__(scope, id_)
        self._house, self._settings, self._lake, self._bus = house, settings, lake, bus
        self.deliveries: list[Delivery] = []
        self.tables: list[str] = []
        values = self._deliver(OFFICIAL_VALUES, None)
        self._from_bus(
            "lake",
            VALUES,
            arn=values.attr_arn,
            actions=["firehose:PutRecord", "firehose:PutRecordBatch"],
        )
        alerts, audit = (streams.others.get(name) for name in ("alerts", "audit"))
        if alerts:
            self._from_bus(
                "alerts",
                TOLD,
                arn=alerts.stream_arn,
                actions=["kinesis:PutRecord", "kinesis:PutRecords"],
                # An issue's messages stay in order.
                key=events.CfnRule.KinesisParametersProperty(partition_key_path="$.detail.subject"),
            )
            self._deliver(ISSUES, alerts)
        if audit:
            self._deliver(AUDIT, audit)

    def _from_bus(
        self,
        logical: str,
        types: dict[str, type],
        *,
        arn: str,
        actions: list[str],
        key: events.CfnRule.KinesisParametersProperty | None = None,
    ) -> None:
        """A rule that sends events as they are, the CloudEvent alone, to what ``arn`` names."""
        name = id_of(logical)
        role = iam.Role(
            self,
            f"{name}RuleRole",
            assumed_by=iam.ServicePrincipal("events.amazonaws.com", conditions=_OURS),
        )
        policy = iam.ManagedPolicy(self, f"{name}RulePolicy", roles=[role])
        policy.add_statements(iam.PolicyStatement(actions=actions, resources=[arn]))
        if key:
            policy.add_statements(*self._house.key_use("kms:GenerateDataKey"))
        rule = events.CfnRule(
            self,
            f"To{name}",
            name=self._house.name(f"to-{logical}"),
            description=f"What goes to {logical}",
            event_bus_name=self._bus.bus.event_bus_name,
            event_pattern={"detail-type": detail_types(types)},
            targets=[
                events.CfnRule.TargetProperty(
                    id="Target0",
                    arn=arn,
                    role_arn=role.role_arn,
                    input_path="$.detail",
                    kinesis_parameters=key,
                    dead_letter_config=events.CfnRule.DeadLetterConfigProperty(
                        arn=self._bus.bus_dlq.queue_arn
                    ),
                    retry_policy=events.CfnRule.RetryPolicyProperty(
                        maximum_retry_attempts=10,
                        maximum_event_age_in_seconds=int(Duration.hours(1).to_seconds()),
                    ),
                )
            ],
        )
        rule.node.add_dependency(policy)

    def _deliver(self, table: Table, source: kinesis.Stream | None) -> firehose.CfnDeliveryStream:
        """Firehose from ``source``, or from who puts records itself, to the files of ``table``."""
        house = self._house
        name = house.name(f"lake-{table.name.replace('_', '-')}")
        made = self._table(table)
        group = house.log_group(self, f"{made.node.id}Logs", name=f"/aws/kinesisfirehose/{name}")
        stream = logs.CfnLogStream(
            self, f"{made.node.id}LogStream", log_group_name=group.log_group_name, log_stream_name="delivery"
        )
        role, policy = self._delivery_role(table, made, group, source)
        delivery = firehose.CfnDeliveryStream(
            self,
            f"{made.node.id}Delivery",
            delivery_stream_name=name,
            delivery_stream_type="KinesisStreamAsSource" if source else "DirectPut",
            kinesis_stream_source_configuration=(
                firehose.CfnDeliveryStream.KinesisStreamSourceConfigurationProperty(
                    kinesis_stream_arn=source.stream_arn, role_arn=role.role_arn
                )
                if source
                else None
            ),
            delivery_stream_encryption_configuration_input=(
                firehose.CfnDeliveryStream.DeliveryStreamEncryptionConfigurationInputProperty(
                    key_type="CUSTOMER_MANAGED_CMK", key_arn=house.data_key.key_arn
                )
                if house.data_key and not source
                else None
            ),
            extended_s3_destination_configuration=firehose.CfnDeliveryStream.ExtendedS3DestinationConfigurationProperty(
                bucket_arn=self._lake.lake.bucket_arn,
                role_arn=role.role_arn,
                prefix=f"{table.name}/{_FOLDER}",
                # Firehose keeps what it cannot convert in the same bucket: there is no setting for another.
                error_output_prefix=f"failed/{table.name}/!{{firehose:error-output-type}}/{_FOLDER}",
                buffering_hints=firehose.CfnDeliveryStream.BufferingHintsProperty(
                    interval_in_seconds=self._settings.delivery_seconds, size_in_m_bs=FILE_MIB
                ),
                compression_format="UNCOMPRESSED" if table.parquet else "GZIP",
                encryption_configuration=(
                    firehose.CfnDeliveryStream.EncryptionConfigurationProperty(
                        kms_encryption_config=firehose.CfnDeliveryStream.KMSEncryptionConfigProperty(
                            awskms_key_arn=house.data_key.key_arn
                        )
                    )
                    if house.data_key
                    else None
                ),
                cloud_watch_logging_options=firehose.CfnDeliveryStream.CloudWatchLoggingOptionsProperty(
                    enabled=True, log_group_name=group.log_group_name, log_stream_name=stream.log_stream_name
                ),
                data_format_conversion_configuration=(
                    self._as_parquet(made, role) if table.parquet else None
                ),
                processing_configuration=None if table.parquet else _one_a_line(),
            ),
        )
        delivery.node.add_dependency(policy, stream)
        if source:
            acknowledge(
                delivery,
                {"AwsSolutions-KDF1": "Its source is an encrypted stream; Firehose takes no key then."},
            )
        self.deliveries.append(Delivery(table=table.name, stream_name=name, converted=table.parquet))
        return delivery

    def _as_parquet(
        self, table: glue.CfnTable, role: iam.Role
    ) -> firehose.CfnDeliveryStream.DataFormatConversionConfigurationProperty:
        of = firehose.CfnDeliveryStream
        return of.DataFormatConversionConfigurationProperty(
            enabled=True,
            input_format_configuration=of.InputFormatConfigurationProperty(
                deserializer=of.DeserializerProperty(open_x_json_ser_de=of.OpenXJsonSerDeProperty())
            ),
            output_format_configuration=of.OutputFormatConfigurationProperty(
                serializer=of.SerializerProperty(parquet_ser_de=of.ParquetSerDeProperty(compression="SNAPPY"))
            ),
            schema_configuration=of.SchemaConfigurationProperty(
                catalog_id=Aws.ACCOUNT_ID,
                database_name=self._lake.catalogue,
                table_name=table.ref,
                region=Aws.REGION,
                role_arn=role.role_arn,
                version_id="LATEST",
            ),
        )

    def _delivery_role(
        self, table: Table, made: glue.CfnTable, group: logs.LogGroup, source: kinesis.Stream | None
    ) -> tuple[iam.Role, iam.ManagedPolicy]:
        """Its own folder of one bucket, its own table, its own stream, and the key by way of these only."""
        house, bucket = self._house, f"arn:{Aws.PARTITION}:s3:::{bucket_name(self._house, 'lake')}"
        role = iam.Role(
            self,
            f"{made.node.id}Role",
            assumed_by=iam.ServicePrincipal("firehose.amazonaws.com", conditions=_OURS),
        )
        policy = iam.ManagedPolicy(self, f"{made.node.id}Policy", roles=[role])
        folders = [f"{bucket}/{table.name}/*", f"{bucket}/failed/{table.name}/*"]
        policy.add_statements(
            iam.PolicyStatement(
                actions=["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
                resources=[bucket],
            ),
            iam.PolicyStatement(
                actions=["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], resources=folders
            ),
            iam.PolicyStatement(actions=["logs:PutLogEvents"], resources=[group.log_group_arn]),
        )
        via = ["s3"]
        if table.parquet:
            policy.add_statements(
                iam.PolicyStatement(
                    actions=["glue:GetTable", "glue:GetTableVersion", "glue:GetTableVersions"],
                    resources=[
                        house.arn("glue", "catalog"),
                        house.arn("glue", f"database/{self._lake.catalogue}"),
                        house.arn("glue", f"table/{self._lake.catalogue}/{table.name}"),
                    ],
                )
            )
        if source:
            via.append("kinesis")
            policy.add_statements(
                iam.PolicyStatement(
                    actions=[
                        "kinesis:DescribeStream",
                        "kinesis:GetRecords",
                        "kinesis:GetShardIterator",
                        "kinesis:ListShards",
                    ],
                    resources=[source.stream_arn],
                )
            )
        policy.add_statements(*house.key_use("kms:Decrypt", "kms:GenerateDataKey", via=via))
        acknowledge(
            policy,
            {
                f"AwsSolutions-IAM5[Resource::{finding(folder)}]": "Firehose names the files of its folder."
                for folder in folders
            },
        )
        return role, policy

    def _table(self, table: Table) -> glue.CfnTable:
        location = f"s3://{bucket_name(self._house, 'lake')}/{table.name}/"
        reads, writes = (
            (f"{_PARQUET}.MapredParquetInputFormat", f"{_PARQUET}.MapredParquetOutputFormat")
            if table.parquet
            else (
                "org.apache.hadoop.mapred.TextInputFormat",
                "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
            )
        )
        made = glue.CfnTable(
            self,
            id_of(table.name),
            catalog_id=Aws.ACCOUNT_ID,
            database_name=self._lake.catalogue,
            table_input=glue.CfnTable.TableInputProperty(
                name=table.name,
                description=table.description,
                table_type="EXTERNAL_TABLE",
                parameters={
                    "EXTERNAL": "TRUE",
                    "classification": "parquet" if table.parquet else "json",
                    "projection.enabled": "true",
                    "projection.day.type": "date",
                    "projection.day.format": "yyyy/MM/dd",
                    "projection.day.range": f"{FIRST_DAY},NOW",
                    "projection.day.interval": "1",
                    "projection.day.interval.unit": "DAYS",
                    "storage.location.template": f"{location}${{day}}/",
                },
                partition_keys=[glue.CfnTable.ColumnProperty(name="day", type="string")],
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    columns=[
                        glue.CfnTable.ColumnProperty(name=name, type=kind)
                        for name, kind in table.columns.items()
                    ],
                    location=location,
                    input_format=reads,
                    output_format=writes,
                    serde_info=glue.CfnTable.SerdeInfoProperty(
                        serialization_library=f"{_PARQUET}.serde.ParquetHiveSerDe" if table.parquet else _JSON
                    ),
                ),
            ),
        )
        made.node.add_dependency(self._lake.database)
        self.tables.append(table.name)
        return made


def _one_a_line() -> firehose.CfnDeliveryStream.ProcessingConfigurationProperty:
    of = firehose.CfnDeliveryStream
    return of.ProcessingConfigurationProperty(
        enabled=True,
        processors=[
            of.ProcessorProperty(
                type="AppendDelimiterToRecord",
                parameters=[of.ProcessorParameterProperty(parameter_name="Delimiter", parameter_value="\\n")],
            )
        ],
    )
