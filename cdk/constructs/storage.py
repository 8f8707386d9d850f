"""The bucket of raw inputs."""

from __future__ import annotations

from aws_cdk import Aws, Duration
from aws_cdk import aws_s3 as s3
from constructs import Construct

from cdk.constructs.house import House, acknowledge

_NO_REPLICA = "One region is enough here: raw inputs can be asked for again, and the event log is backed up."


class Storage(Construct):
    """``raw``: versioned, private, encrypted, TLS only."""

    def __init__(self, scope: Construct, id_: str, *, house: House) -> None:
        super().__init__(scope, id_)
        logs = self._log_bucket(house) if house.settings.bucket.access_logs else None
        name = _name(house, "raw")
        # By name, not by attribute: it reads the same in every stack that grants something on it.
        self.raw_objects_arn = f"arn:{Aws.PARTITION}:s3:::{name}/*"
        self.raw = s3.Bucket(
            self,
            "Raw",
            bucket_name=name,
            encryption=s3.BucketEncryption.KMS if house.data_key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=house.data_key,
            bucket_key_enabled=True if house.data_key else None,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            server_access_logs_bucket=logs,
            server_access_logs_prefix="raw/" if logs else None,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="tidy",
                    abort_incomplete_multipart_upload_after=Duration.days(7),
                    noncurrent_version_expiration=Duration.days(house.settings.bucket.noncurrent_days),
                )
            ],
            removal_policy=house.removal,
        )
        acknowledge(self.raw, {"NIST.800.53.R5-S3BucketReplicationEnabled": _NO_REPLICA})
        if logs is None:
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
        bucket = s3.Bucket(
            self,
            "AccessLogs",
            bucket_name=_name(house, "access-logs"),
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="expire",
                    expiration=Duration.days(house.settings.log_retention_days),
                    noncurrent_version_expiration=Duration.days(1),
                )
            ],
            removal_policy=house.removal,
        )
        acknowledge(
            bucket,
            {
                "NIST.800.53.R5-S3BucketReplicationEnabled": "Access logs expire within weeks.",
                "NIST.800.53.R5-S3DefaultEncryptionKMS": "S3 delivers access logs to SSE-S3 buckets only.",
            },
        )
        return bucket


def _name(house: House, logical: str) -> str:
    name = house.name(logical)
    return f"{name}-{Aws.ACCOUNT_ID}" if house.settings.bucket.name_has_account else name
