"""Buckets: of raw inputs, of the lake, of backups, of assets, of what was rejected; and the catalogue."""

from __future__ import annotations

from aws_cdk import Aws, CfnCondition, CfnParameter, Duration, Fn
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from cdk.constructs.buckets import bucket_name, house_bucket, passing_bucket
from cdk.constructs.house import House, acknowledge, finding
from cdk.environments.settings import Peer
from cdk.environments.stores import Lake as LakeSettings

_NO_REPLICA = "One region is enough here: raw inputs can be asked for again, and the event log is backed up."
_REPLICATED = ("Lake", "Backups")
_LOCKS = {"GOVERNANCE": s3.ObjectLockRetention.governance, "COMPLIANCE": s3.ObjectLockRetention.compliance}


class Storage(Construct):
    """``raw``: what came in, as it came."""

    def __init__(self, scope: Construct, id_: str, *, house: House) -> None:
        super().__init__(scope, id_)
        self.logs = self._log_bucket(house) if house.settings.bucket.access_logs else None
        # By name, not by attribute: it reads the same in every stack that grants something on it.
        self.raw_objects_arn = f"arn:{Aws.PARTITION}:s3:::{bucket_name(house, 'raw')}/*"
        self.names_not_known_before = {
            f"AwsSolutions-IAM5[Resource::{finding(self.raw_objects_arn)}]": (
                "Writes objects whose names are not known before; this bucket only."
            )
        }
        """Why whoever moves raw payloads may write any object of that bucket."""
        self.raw = house_bucket(self, "Raw", house=house, logical="raw", logs=self.logs, single=_NO_REPLICA)
        if self.logs is None:
            local = "The local twin has no delivery of access logs."
            acknowledge(
                self.raw,
                {
                    "AwsSolutions-S1": local,
                    "NIST.800.53.R5-S3BucketLoggingEnabled": local,
                    "NIST.800.53.R5-S3DefaultEncryptionKMS": "The local twin has no customer keys.",
                },
            )

    def _log_bucket(self, house: House) -> s3.Bucket:
        return passing_bucket(
            self,
            "AccessLogs",
            house=house,
            logical="access-logs",
            days=house.settings.log_retention_days,
            reasons={
                "NIST.800.53.R5-S3BucketReplicationEnabled": "Access logs expire within weeks.",
                "NIST.800.53.R5-S3DefaultEncryptionKMS": "S3 delivers access logs to SSE-S3 buckets only.",
            },
        )


class Lake(Construct):
    """``lake`` (by table and year/month/day/hour, see ``lake_feed``), ``backups``, ``assets``, ``rejected``,
    and the Glue database that tables of the lake are entered in."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: LakeSettings, logs: s3.IBucket | None
    ) -> None:
        super().__init__(scope, id_)
        self._house = house
        second = house.settings.copies_to
        lock = _LOCKS[settings.lock_mode](Duration.days(settings.lock_days))
        single = "No second region stands by for this environment."
        if second:
            single = (
                "Copied as soon as the second region is ready; the rule does not see through a condition."
            )
        if house.settings.copy_of:
            single = "It is itself the replica, in the second region."
        self.lake = house_bucket(
            self,
            "Lake",
            house=house,
            logical="lake",
            logs=logs,
            rules=[_colder(settings)],
            abort_days=1,
            lock=lock,
            single=single,
        )
        self.backups = house_bucket(
            self,
            "Backups",
            house=house,
            logical="backups",
            logs=logs,
            rules=[_colder(settings)],
            lock=lock,
            single=single,
        )
        house_bucket(
            self,
            "Assets",
            house=house,
            logical="assets",
            logs=logs,
            single="Pages and documents are deployed again from the repository.",
        )
        self.rejected = house_bucket(
            self,
            "Rejected",
            house=house,
            logical="rejected",
            logs=logs,
            rules=[s3.LifecycleRule(id="expire", expiration=Duration.days(settings.rejected_days))],
            single="What was rejected is looked at and then deleted; its raw input is in the bucket `raw`.",
        )
        if second:
            self._replicate(second)
        self.catalogue = house.name("lake").replace("-", "_")
        self.database = glue.CfnDatabase(
            self,
            "Catalogue",
            catalog_id=Aws.ACCOUNT_ID,
            database_input=glue.CfnDatabase.DatabaseInputProperty(
                name=self.catalogue,
                description="Tables of the data lake",
                location_uri=f"s3://{bucket_name(house, 'lake')}/",
            ),
        )

    def exports_role(self, scope: Construct) -> iam.Role:
        """What the event store writes query results to the lake as, below ``exports/``."""
        role = iam.Role(scope, "ExportRole", assumed_by=iam.ServicePrincipal("rds.amazonaws.com"))
        policy = iam.ManagedPolicy(scope, "ExportPolicy", roles=[role])
        objects = f"arn:{Aws.PARTITION}:s3:::{bucket_name(self._house, 'lake')}/exports/*"
        policy.add_statements(
            iam.PolicyStatement(actions=["s3:PutObject", "s3:AbortMultipartUpload"], resources=[objects]),
            *self._house.key_use("kms:GenerateDataKey", "kms:Decrypt"),
        )
        acknowledge(
            policy,
            {f"AwsSolutions-IAM5[Resource::{finding(objects)}]": "Files are named when written."},
        )
        return role

    def _replicate(self, second: Peer) -> None:
        """Copy every new object to the other region, within 15 minutes, once that region is there."""
        house = self._house
        stem = f"qis-{second.environment.replace('-', '')}"
        role = iam.Role(self, "ReplicationRole", assumed_by=iam.ServicePrincipal("s3.amazonaws.com"))
        policy = iam.ManagedPolicy(self, "ReplicationPolicy", roles=[role])
        sources = {name: bucket_name(house, name.lower()) for name in _REPLICATED}
        targets = {name: f"{stem}-{name.lower()}-{Aws.ACCOUNT_ID}" for name in _REPLICATED}
        arn = f"arn:{Aws.PARTITION}:s3:::"
        read = iam.PolicyStatement(
            actions=["s3:GetReplicationConfiguration", "s3:ListBucket", "s3:GetBucketVersioning"],
            resources=[arn + name for name in sources.values()],
        )
        take = iam.PolicyStatement(
            actions=[
                "s3:GetObjectVersionForReplication",
                "s3:GetObjectVersionAcl",
                "s3:GetObjectVersionTagging",
                "s3:GetObjectRetention",
                "s3:GetObjectLegalHold",
            ],
            resources=[f"{arn}{name}/*" for name in sources.values()],
        )
        give = iam.PolicyStatement(
            actions=["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"],
            resources=[f"{arn}{name}/*" for name in targets.values()],
        )
        policy.add_statements(read, take, give)
        if house.data_key:
            alias = f"alias/{stem}-data"
            keys = f"arn:{Aws.PARTITION}:kms:{second.region}:{Aws.ACCOUNT_ID}:key/*"
            policy.add_statements(
                iam.PolicyStatement(actions=["kms:Decrypt"], resources=[house.data_key.key_arn]),
                iam.PolicyStatement(
                    actions=["kms:Encrypt"],
                    resources=[keys],
                    conditions={"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}},
                ),
            )
            by_alias = "The key of the other region is known by its alias, which the condition asks for."
            acknowledge(policy, {f"AwsSolutions-IAM5[Resource::{finding(keys)}]": by_alias})
        acknowledge(
            policy,
            {
                f"AwsSolutions-IAM5[Resource::{finding(f'{arn}{name}/*')}]": (
                    "S3 copies every object of this one bucket."
                )
                for name in (*sources.values(), *targets.values())
            },
        )
        ready = self._second_region_ready()
        for name, target in targets.items():
            bucket = {"Lake": self.lake, "Backups": self.backups}[name]
            resource = bucket.node.default_child
            assert isinstance(resource, s3.CfnBucket)
            rule = {
                "Id": "everything",
                "Status": "Enabled",
                "Priority": 1,
                "Filter": {"Prefix": ""},
                "DeleteMarkerReplication": {"Status": "Enabled"},
                "SourceSelectionCriteria": {"SseKmsEncryptedObjects": {"Status": "Enabled"}},
                "Destination": {
                    "Bucket": arn + target,
                    "StorageClass": "STANDARD_IA",
                    "EncryptionConfiguration": {
                        "ReplicaKmsKeyID": (
                            f"arn:{Aws.PARTITION}:kms:{second.region}:{Aws.ACCOUNT_ID}:alias/{stem}-data"
                        )
                    },
                    "ReplicationTime": {"Status": "Enabled", "Time": {"Minutes": 15}},
                    "Metrics": {"Status": "Enabled", "EventThreshold": {"Minutes": 15}},
                },
            }
            resource.add_property_override(
                "ReplicationConfiguration",
                Fn.condition_if(ready.logical_id, {"Role": role.role_arn, "Rules": [rule]}, Aws.NO_VALUE),
            )
            resource.node.add_dependency(policy)

    def _second_region_ready(self) -> CfnCondition:
        """S3 refuses to copy to a bucket that does not exist, and the second region is made after the first,
        whose key and database it joins: so copying begins with the first region's next deployment."""
        parameter = CfnParameter(
            self,
            "SecondRegion",
            type="String",
            default="absent",
            allowed_values=["absent", "ready"],
            description="ready: the buckets of the second region exist, copying to them begins",
        )
        parameter.override_logical_id("SecondRegion")
        condition = CfnCondition(
            self, "SecondRegionReady", expression=Fn.condition_equals(parameter.value_as_string, "ready")
        )
        condition.override_logical_id("SecondRegionReady")
        return condition


def _colder(settings: LakeSettings) -> s3.LifecycleRule:
    """Cheaper classes with age. Deep Archive begins before the lock ends, not with it as in the document:
    a lock does not hold up a transition, and what begins on day 2,555 saves nothing in seven years."""
    steps = (
        (s3.StorageClass.INFREQUENT_ACCESS, settings.infrequent_after_days),
        (s3.StorageClass.GLACIER, settings.glacier_after_days),
        (s3.StorageClass.DEEP_ARCHIVE, settings.deep_archive_after_days),
    )
    return s3.LifecycleRule(
        id="colder",
        transitions=[
            s3.Transition(storage_class=storage, transition_after=Duration.days(days))
            for storage, days in steps
        ],
    )
