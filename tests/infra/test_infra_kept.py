"""What holds data is kept, and stays the same resource."""

from __future__ import annotations

import json

from tests.infra.synthesis import HERE, Environment

LOCKED = HERE / "stateful.json"

SNAPSHOT = frozenset({"AWS::RDS::DBCluster", "AWS::DocDB::DBCluster", "AWS::ElastiCache::ReplicationGroup"})
"""Types that CloudFormation can take a snapshot of before it deletes them."""

STATEFUL = SNAPSHOT | frozenset(
    {
        "AWS::Backup::BackupVault",
        "AWS::Cognito::UserPool",
        "AWS::DynamoDB::Table",
        "AWS::EFS::FileSystem",
        "AWS::KMS::Key",
        "AWS::KMS::ReplicaKey",
        "AWS::Kinesis::Stream",
        "AWS::MSK::Cluster",
        "AWS::OpenSearchService::Domain",
        "AWS::RDS::DBInstance",
        "AWS::RDS::GlobalCluster",
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
        "AWS::Timestream::Database",
        "AWS::Timestream::InfluxDBInstance",
        "AWS::Timestream::Table",
    }
)

NO_DATA_OF_ITS_OWN: dict[str, str] = {
    "AWS::ElastiCache::ReplicationGroup": "a cache: everything in it can be made again from the event store",
}
"""Types that a snapshot is enough for, or that may go altogether."""


def test_what_holds_data_is_retained_or_copied_first(environment: Environment) -> None:
    for logical_id, resource in environment.of_type(*STATEFUL):
        if resource["Type"] in NO_DATA_OF_ITS_OWN:
            continue
        kept = {"Retain"} | ({"Snapshot"} if resource["Type"] in SNAPSHOT else set())
        assert resource.get("DeletionPolicy") in kept, logical_id
        assert resource.get("UpdateReplacePolicy") in kept, logical_id


def test_what_holds_data_keeps_its_logical_id(in_aws: Environment) -> None:
    """A changed id means that CloudFormation makes an empty one beside the old one. Change the list only
    together with a plan for moving the data. (The local twin keeps its data outside of CloudFormation.)"""
    found = {logical_id: resource["Type"] for logical_id, resource in in_aws.of_type(*STATEFUL)}
    locked = json.loads(LOCKED.read_text(encoding="utf-8"))
    assert found == locked[in_aws.name]


def test_the_list_of_what_is_locked_has_no_environment_that_is_gone(
    environments: dict[str, Environment],
) -> None:
    assert set(json.loads(LOCKED.read_text(encoding="utf-8"))) == set(environments) - {"local"}
