"""How the lake is asked: a workgroup whose bounds no client can lift, and questions that come again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aws_cdk import Aws, Duration
from aws_cdk import aws_athena as athena
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from cdk.constructs.buckets import bucket_name, house_bucket
from cdk.constructs.house import House, acknowledge, finding, id_of
from cdk.constructs.storage import Lake
from cdk.constructs.tables import TABLES
from cdk.environments.stores import Lake as LakeSettings

QUERIES = Path(__file__).parents[1] / "queries"
RESULT_DAYS = 7


class LakeQuestions(Construct):
    """Workgroup, where its answers go, and the named queries of the tables that there are."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        house: House,
        settings: LakeSettings,
        lake: Lake,
        tables: Sequence[str],
        logs_bucket: s3.IBucket | None,
    ) -> None:
        super().__init__(scope, id_)
        self._house, self._lake, self._tables = house, lake, tables
        results = house_bucket(
            self,
            "Results",
            house=house,
            logical="queries",
            logs=logs_bucket,
            rules=[s3.LifecycleRule(id="expire", expiration=Duration.days(RESULT_DAYS))],
            single="Answers are asked for again; the lake itself is what is copied.",
        )
        group = athena.CfnWorkGroup(
            self,
            "Workgroup",
            name=house.name("lake"),
            description="Questions to the lake",
            state="ENABLED",
            work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                bytes_scanned_cutoff_per_query=settings.query_scan_gib * 2**30,
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                requester_pays_enabled=False,
                engine_version=athena.CfnWorkGroup.EngineVersionProperty(
                    selected_engine_version="Athena engine version 3"
                ),
                result_configuration=athena.CfnWorkGroup.ResultConfigurationProperty(
                    output_location=f"s3://{results.bucket_name}/",
                    expected_bucket_owner=Aws.ACCOUNT_ID,
                    encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(
                        encryption_option="SSE_KMS" if house.data_key else "SSE_S3",
                        kms_key=house.data_key.key_arn if house.data_key else None,
                    ),
                ),
            ),
        )
        for path in sorted(QUERIES.glob("*.sql")):
            described, _, sql = path.read_text(encoding="utf-8").partition("\n")
            if asked_of(sql) not in tables:
                continue
            named = athena.CfnNamedQuery(
                self,
                id_of(path.stem),
                name=path.stem,
                description=described.removeprefix("-- "),
                database=lake.catalogue,
                query_string=sql,
                work_group=group.name,
            )
            named.node.add_dependency(group)

    def let_ask(self, roles: Sequence[iam.IRole]) -> None:
        """Let ``roles`` ask the lake, in its workgroup and of its tables only. That they may read its files
        is said where they are made."""
        house = self._house
        results = f"arn:{Aws.PARTITION}:s3:::{bucket_name(house, 'queries')}"
        policy = iam.ManagedPolicy(self, "AskPolicy", roles=list(roles))
        policy.add_statements(
            iam.PolicyStatement(
                actions=[
                    "athena:BatchGetNamedQuery",
                    "athena:GetNamedQuery",
                    "athena:GetQueryExecution",
                    "athena:GetQueryResults",
                    "athena:GetWorkGroup",
                    "athena:ListNamedQueries",
                    "athena:StartQueryExecution",
                    "athena:StopQueryExecution",
                ],
                resources=[house.arn("athena", f"workgroup/{house.name('lake')}")],
            ),
            iam.PolicyStatement(
                actions=["glue:GetDatabase", "glue:GetPartitions", "glue:GetTable", "glue:GetTables"],
                resources=[
                    house.arn("glue", "catalog"),
                    house.arn("glue", f"database/{self._lake.catalogue}"),
                    *(house.arn("glue", f"table/{self._lake.catalogue}/{name}") for name in self._tables),
                ],
            ),
            iam.PolicyStatement(
                actions=["s3:GetBucketLocation", "s3:ListBucketMultipartUploads"], resources=[results]
            ),
            iam.PolicyStatement(
                actions=[
                    "s3:AbortMultipartUpload",
                    "s3:GetObject",
                    "s3:ListMultipartUploadParts",
                    "s3:PutObject",
                ],
                resources=[f"{results}/*"],
            ),
            *house.key_use("kms:Decrypt", "kms:GenerateDataKey", via=["s3"]),
        )
        acknowledge(
            policy,
            {f"AwsSolutions-IAM5[Resource::{finding(f'{results}/*')}]": "Athena names the files of answers."},
        )


def asked_of(sql: str) -> str:
    """The table that a question is asked of; each is asked of one."""
    (table,) = (table.name for table in TABLES if f"FROM {table.name}\n" in sql)
    return table
