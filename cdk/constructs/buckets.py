"""S3 buckets as the house makes them: private, versioned, encrypted, over TLS only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Aws, Duration
from aws_cdk import aws_s3 as s3
from constructs import Construct

from cdk.constructs.house import House, acknowledge

_CLOSED: dict[str, Any] = {
    "block_public_access": s3.BlockPublicAccess.BLOCK_ALL,
    "enforce_ssl": True,
    "minimum_tls_version": 1.2,
    "versioned": True,
}
"""What no bucket of ours is without."""


def bucket_name(house: House, logical: str) -> str:
    """The name of a bucket of this environment."""
    name = house.name(logical)
    return f"{name}-{Aws.ACCOUNT_ID}" if house.settings.bucket.name_has_account else name


def house_bucket(
    scope: Construct,
    id_: str,
    *,
    house: House,
    logical: str,
    logs: s3.IBucket | None,
    rules: Sequence[s3.LifecycleRule] = (),
    abort_days: int = 7,
    lock: s3.ObjectLockRetention | None = None,
    single: str,
) -> s3.Bucket:
    """A private, versioned, encrypted bucket that answers over TLS only.

    Args:
        logs: where its access log goes; none in the local twin.
        lock: for how long nothing in it can be deleted.
        single: why it has no replica in another region, or none that the checker sees.
    """
    made = s3.Bucket(
        scope,
        id_,
        bucket_name=bucket_name(house, logical),
        encryption=s3.BucketEncryption.KMS if house.data_key else s3.BucketEncryption.S3_MANAGED,
        encryption_key=house.data_key,
        bucket_key_enabled=True if house.data_key else None,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        **_CLOSED,
        object_lock_enabled=True if lock else None,
        object_lock_default_retention=lock,
        server_access_logs_bucket=logs,
        server_access_logs_prefix=f"{logical}/" if logs else None,
        lifecycle_rules=[
            s3.LifecycleRule(
                id="tidy",
                abort_incomplete_multipart_upload_after=Duration.days(abort_days),
                # S3 waits for the end of a lock before it expires what the lock holds.
                noncurrent_version_expiration=Duration.days(house.settings.bucket.noncurrent_days),
            ),
            *rules,
        ],
        removal_policy=house.removal,
    )
    acknowledge(made, {"NIST.800.53.R5-S3BucketReplicationEnabled": single})
    return made


def passing_bucket(
    scope: Construct,
    id_: str,
    *,
    house: House,
    logical: str,
    days: int,
    reasons: Mapping[str, str],
    ownership: s3.ObjectOwnership = s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
) -> s3.Bucket:
    """A bucket of what services write and nobody misses after ``days``: encrypted by S3 itself, because the
    services that deliver logs and results do not all know customer keys.

    Args:
        reasons: what it does without, each with why.
    """
    made = s3.Bucket(
        scope,
        id_,
        bucket_name=bucket_name(house, logical),
        encryption=s3.BucketEncryption.S3_MANAGED,
        object_ownership=ownership,
        lifecycle_rules=[
            s3.LifecycleRule(
                id="expire",
                expiration=Duration.days(days),
                noncurrent_version_expiration=Duration.days(1),
                abort_incomplete_multipart_upload_after=Duration.days(1),
            )
        ],
        removal_policy=house.removal,
        **_CLOSED,
    )
    acknowledge(made, dict(reasons))
    return made
