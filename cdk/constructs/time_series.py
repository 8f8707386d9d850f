"""A store for time series beside the event store, where an environment has one."""

from __future__ import annotations

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_timestream as timestream
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.constructs.network import ISOLATED, Network
from cdk.environments.stores import Influx, LiveAnalytics

PORT = 8087
"""Not InfluxDB's own 8086, which everybody tries."""


class InfluxSeries(Construct):
    """Timestream for InfluxDB in the isolated subnets."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: Influx, network: Network
    ) -> None:
        super().__init__(scope, id_)
        admin = secretsmanager.Secret(
            self,
            "Admin",
            secret_name=house.name("series-admin"),
            description="First sign-in to the time series store",
            encryption_key=house.data_key,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                secret_string_template='{"username":"qis-admin"}',  # noqa: S106 -- a name
                generate_string_key="password",
                exclude_punctuation=True,
                password_length=40,
            ),
            removal_policy=house.removal,
        )
        once = (
            "Used when the store is made; afterwards clients hold tokens of InfluxDB, and a changed password "
            "would replace the instance."
        )
        acknowledge(
            admin,
            {"AwsSolutions-SMG4": once, "NIST.800.53.R5-SecretsManagerRotationEnabled": once},
        )
        self.instance = timestream.CfnInfluxDBInstance(
            self,
            "Instance",
            name=house.name("series"),
            db_instance_type=settings.instance,
            deployment_type="WITH_MULTIAZ_STANDBY" if settings.standby else "SINGLE_AZ",
            allocated_storage=settings.storage_gib,
            db_storage_type="InfluxIOIncludedT1",
            organization="qis",
            bucket="official-values",
            username=admin.secret_value_from_json("username").unsafe_unwrap(),
            password=admin.secret_value_from_json("password").unsafe_unwrap(),
            port=PORT,
            publicly_accessible=False,
            vpc_subnet_ids=network.vpc.select_subnets(subnet_type=ISOLATED.subnet_type).subnet_ids,
            vpc_security_group_ids=[
                network.store_group("Series", port=PORT, what="time series").security_group_id
            ],
        )
        self.instance.apply_removal_policy(house.removal)


class LiveSeries(Construct):
    """Timestream for LiveAnalytics, for accounts that have it: the document's database and two tables."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: LiveAnalytics, rejected: s3.IBucket
    ) -> None:
        super().__init__(scope, id_)
        database = timestream.CfnDatabase(
            self,
            "Database",
            database_name=house.name("series"),
            kms_key_id=house.data_key.key_arn if house.data_key else None,
        )
        database.apply_removal_policy(house.removal)
        for name, memory_hours, days in (
            ("OfficialDataValues", settings.memory_hours, settings.official_values_days),
            ("QualityMetrics", 24, settings.quality_metrics_days),
        ):
            table = timestream.CfnTable(
                self,
                name,
                database_name=database.ref,
                table_name=name,
                retention_properties={
                    "MemoryStoreRetentionPeriodInHours": str(memory_hours),
                    "MagneticStoreRetentionPeriodInDays": str(days),
                },
                # Late values are written to the magnetic store; what it cannot take is kept to be looked at.
                magnetic_store_write_properties={
                    "EnableMagneticStoreWrites": True,
                    "MagneticStoreRejectedDataLocation": {
                        "S3Configuration": {
                            "BucketName": rejected.bucket_name,
                            "ObjectKeyPrefix": f"{name}/",
                            "EncryptionOption": "SSE_S3",
                        }
                    },
                },
            )
            table.apply_removal_policy(house.removal)
        rejected.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("timestream.amazonaws.com")],
                actions=["s3:PutObject"],
                resources=[rejected.arn_for_objects("*")],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
