"""Which versions of what AWS offers are alive, as of November 2026, and which types nobody can make any more.

Linters do not catch most of these: EKS 1.28, MSK 2.8.1 and Kinesis Analytics for SQL pass them silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

ALIVE: dict[tuple[str, str], tuple[str, str]] = {
    ("AWS::EKS::Cluster", "Version"): (r"1\.3[5-6]", "1.34 leaves standard support in December 2026"),
    ("AWS::EKS::Nodegroup", "AmiType"): (r"(AL2023|BOTTLEROCKET)_.*", "AL2 images ended on 2025-11-26"),
    ("AWS::MSK::Cluster", "KafkaVersion"): (
        r"(3\.9\.x|4\.\d+\.x)(\.kraft)?",
        "2.8.1 ended in September 2024",
    ),
    ("AWS::Lambda::Function", "Runtime"): (r"python3\.1[34]|nodejs2[24]\.x", "3.13, 3.14 to June 2029"),
    ("AWS::RDS::DBCluster", "EngineVersion"): (r"17\.(7|9)|18\.6", "new clusters on 15.4 are refused"),
    ("AWS::RDS::GlobalCluster", "EngineVersion"): (r"17\.(7|9)|18\.6", "new clusters on 15.4 are refused"),
    ("AWS::DocDB::DBCluster", "EngineVersion"): (r"5\.0\.0|8\.0\.0", "4.0 and older are in extended support"),
    ("AWS::ElastiCache::ReplicationGroup", "Engine"): (r"valkey", "Redis nodes cost a quarter more"),
    ("AWS::ElastiCache::ReplicationGroup", "EngineVersion"): (r"8\.\d+", "Valkey 8"),
    ("AWS::OpenSearchService::Domain", "EngineVersion"): (r"OpenSearch_[23]\.\d+", "older ones cost extra"),
    ("AWS::KinesisAnalyticsV2::Application", "RuntimeEnvironment"): (
        r"FLINK-(1_20|2_\d+)",
        "SQL is gone since 2026-01-27",
    ),
    ("AWS::Synthetics::Canary", "RuntimeVersion"): (
        r"syn-python-selenium-([6-9]|\d\d)\.\d+|syn-nodejs-puppeteer-(9|1\d)\.\d+",
        "older runtimes stand on ended versions of their language",
    ),
}
"""Pattern of living versions by type and property, and why."""

GONE: dict[str, str] = {
    "AWS::KinesisAnalytics::Application": "Kinesis Data Analytics for SQL is gone since 2026-01-27",
    "AWS::KinesisAnalytics::ApplicationOutput": "Kinesis Data Analytics for SQL is gone since 2026-01-27",
    "AWS::Timestream::Database": "LiveAnalytics is closed to new customers since 2025-06-20",
    "AWS::Timestream::Table": "LiveAnalytics is closed to new customers since 2025-06-20",
    "AWS::QLDB::Ledger": "QLDB ended in 2025",
    "AWS::AppMesh::Mesh": "App Mesh ends in September 2026",
}
"""Types that a new account cannot make."""


def dead(template: Mapping[str, Any], *, accepted: frozenset[str] = frozenset()) -> Iterator[tuple[str, str]]:
    """Logical id of what cannot be made any more, and why. ``accepted`` types are left out: for accounts that
    still have them."""
    for logical_id, resource in template["Resources"].items():
        type_ = resource["Type"]
        if type_ in GONE and type_ not in accepted:
            yield logical_id, GONE[type_]
        for (wanted, name), (pattern, why) in ALIVE.items():
            value = resource.get("Properties", {}).get(name) if type_ == wanted else None
            if isinstance(value, str) and not re.fullmatch(pattern, value):
                yield logical_id, f"{name} {value}: {why}"


def unversioned(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What leaves its version to AWS, which then changes it when AWS likes."""
    for logical_id, resource in template["Resources"].items():
        for wanted, name in ALIVE:
            if resource["Type"] == wanted and name not in resource.get("Properties", {}):
                yield logical_id, name
