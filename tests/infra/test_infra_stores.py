"""What an environment has besides the spine: each store as its settings say, closed, kept and copied."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdk.environments import load
from cdk.environments.settings import Settings
from tests.infra.synthesis import Environment, Resource, synthesise_settings
from tests.infra.walk import flat, text

SUBSCRIBER = "210987654321"


@pytest.fixture
def prod(environments: dict[str, Environment]) -> Environment:
    return environments["prod"]


@pytest.fixture
def reference(environments: dict[str, Environment]) -> Environment:
    return environments["prod-reference"]


@pytest.fixture
def dr(environments: dict[str, Environment]) -> Environment:
    return environments["dr"]


@pytest.fixture(scope="session")
def variant(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What no environment of ours chooses: the closed time series service, a subscriber outside, warm
    instances."""
    base = load("staging")
    query = base.functions["query"].model_copy(update={"snap_start": False, "provisioned_concurrency": 5})
    assert base.bus is not None
    settings = Settings.model_validate(
        dict(base)
        | {
            "bus": base.bus.model_copy(update={"subscribers": (SUBSCRIBER,)}),
            "functions": base.functions | {"query": query},
            "time_series": {
                "store": "liveanalytics",
                "account_has_it": True,
                "memory_hours": 168,
                "official_values_days": 2555,
                "quality_metrics_days": 365,
            },
        }
    )
    return synthesise_settings(settings, tmp_path_factory.mktemp("variant"))


def only(environment: Environment, type_: str) -> Resource:
    ((_, resource),) = environment.of_type(type_)
    return resource


def properties(environment: Environment, type_: str) -> list[dict[str, Any]]:
    return [r["Properties"] for _, r in environment.of_type(type_)]


# The event store


def test_the_event_store_has_the_instances_of_its_settings(prod: Environment, reference: Environment) -> None:
    sizes = [i["DBInstanceClass"] for i in properties(prod, "AWS::RDS::DBInstance")]
    assert sizes == ["db.r6g.xlarge"] * 3
    sizes = [i["DBInstanceClass"] for i in properties(reference, "AWS::RDS::DBInstance")]
    assert sizes == ["db.r6g.2xlarge", "db.r6g.xlarge", "db.r6g.xlarge"]


def test_production_goes_back_to_any_second_of_35_days(prod: Environment) -> None:
    assert only(prod, "AWS::RDS::DBCluster")["Properties"]["BackupRetentionPeriod"] == 35


def test_the_proxy_lets_in_by_role_over_tls_all_the_way(prod: Environment) -> None:
    proxy = only(prod, "AWS::RDS::DBProxy")["Properties"]
    assert proxy["DefaultAuthScheme"] == "IAM_AUTH"
    assert proxy["RequireTLS"] is True
    assert "Auth" not in proxy  # no secret is read for anyone


def test_many_instances_share_connections_and_sessions_go_direct(prod: Environment) -> None:
    variables = {name: p["Environment"]["Variables"] for name, p in prod.handlers().items()}
    hosts = {name: flat(given.get("QIS_DATABASE_HOST")) for name, given in variables.items()}
    shared = {name for name, host in hosts.items() if "DatabaseProxy" in host}
    assert shared == {"ingest", "reconcile", "quality", "query"}
    for logical_id, policy in prod.of_type("AWS::IAM::ManagedPolicy"):
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if statement["Action"] == "rds-db:connect" and logical_id.startswith("Service"):
                name = logical_id.removeprefix("Service").partition("Policy")[0].lower()
                assert ("DatabaseProxy" in flat(statement["Resource"])) == (name in shared), name


def test_the_second_region_joins_the_first_ones_database(prod: Environment, dr: Environment) -> None:
    name = only(prod, "AWS::RDS::GlobalCluster")["Properties"]["GlobalClusterIdentifier"]
    first = only(prod, "AWS::RDS::DBCluster")["Properties"]
    second = only(dr, "AWS::RDS::DBCluster")["Properties"]
    assert name == first["GlobalClusterIdentifier"] == second["GlobalClusterIdentifier"]
    assert list(dr.of_type("AWS::RDS::GlobalCluster")) == []
    refused = {"MasterUsername", "MasterUserPassword", "ManageMasterUserPassword", "DatabaseName"}
    assert refused & set(second) == set()
    assert second["EngineVersion"] == first["EngineVersion"]


def test_the_administrators_password_is_rotated_by_us_where_rds_does_not(
    prod: Environment, dev: Environment
) -> None:
    assert only(dev, "AWS::RDS::DBCluster")["Properties"]["ManageMasterUserPassword"] is True
    assert "ManageMasterUserPassword" not in only(prod, "AWS::RDS::DBCluster")["Properties"]
    rotation = only(prod, "AWS::SecretsManager::RotationSchedule")["Properties"]
    assert rotation["RotationRules"]["ScheduleExpression"] == "rate(90 days)"
    assert rotation["HostedRotationLambda"]["RotationType"] == "PostgreSQLSingleUser"


# Keys


def test_the_data_key_is_one_key_in_both_regions(
    prod: Environment, dr: Environment, dev: Environment
) -> None:
    def regions(environment: Environment) -> list[bool]:
        return [k.get("MultiRegion", False) for k in properties(environment, "AWS::KMS::Key")]

    assert regions(prod) == [True, False]  # data, logs
    assert regions(dev) == [False, False]
    assert regions(dr) == [False]
    assert only(dr, "AWS::KMS::ReplicaKey")["Properties"]["PrimaryKeyArn"] == {"Ref": "PrimaryDataKey"}


def test_keys_rotate_as_often_as_the_settings_say(prod: Environment) -> None:
    for key in properties(prod, "AWS::KMS::Key"):
        assert key["EnableKeyRotation"] is True
        assert key["RotationPeriodInDays"] == 90


# The lake


def bucket(environment: Environment, name: str) -> dict[str, Any]:
    (found,) = (
        b for b in properties(environment, "AWS::S3::Bucket") if f"-{name}-" in flat(b.get("BucketName"))
    )
    return found


@pytest.mark.parametrize("name", ["lake", "backups"])
def test_official_values_and_audit_cannot_be_deleted_for_seven_years(prod: Environment, name: str) -> None:
    made = bucket(prod, name)
    assert made["ObjectLockEnabled"] is True
    rule = made["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert rule == {"Mode": "GOVERNANCE", "Days": 2557}
    (colder,) = (r for r in made["LifecycleConfiguration"]["Rules"] if r["Id"] == "colder")
    steps = [(t["StorageClass"], t["TransitionInDays"]) for t in colder["Transitions"]]
    assert steps == [("STANDARD_IA", 30), ("GLACIER", 90), ("DEEP_ARCHIVE", 365)]
    assert "ExpirationInDays" not in colder


@pytest.mark.parametrize("name", ["lake", "backups"])
def test_every_object_is_copied_to_a_bucket_that_the_second_region_has(
    prod: Environment, dr: Environment, name: str
) -> None:
    condition, copied, otherwise = bucket(prod, name)["ReplicationConfiguration"]["Fn::If"]
    assert (condition, otherwise) == ("SecondRegionReady", {"Ref": "AWS::NoValue"})
    (rule,) = copied["Rules"]
    destination = rule["Destination"]
    assert rule["Status"] == "Enabled"
    assert rule["SourceSelectionCriteria"]["SseKmsEncryptedObjects"]["Status"] == "Enabled"
    assert destination["ReplicationTime"]["Time"]["Minutes"] == 15
    target = flat(bucket(dr, name)["BucketName"])
    assert flat(destination["Bucket"]).endswith(f":::{target}")
    key = flat(destination["EncryptionConfiguration"]["ReplicaKmsKeyID"])
    aliases = [a["AliasName"] for a in properties(dr, "AWS::KMS::Alias")]
    assert key.partition(":alias/")[2] in {a.removeprefix("alias/") for a in aliases}
    assert bucket(dr, name)["ObjectLockEnabled"] is True  # or S3 would refuse to copy what is locked


def test_rejected_data_and_assets_are_not_locked(prod: Environment) -> None:
    for name in ("rejected", "assets", "raw"):
        assert "ObjectLockEnabled" not in bucket(prod, name), name


# Caches, Kafka, documents, time series, search, files


def test_caches_are_closed_encrypted_and_signed_in_to_by_role(prod: Environment) -> None:
    groups = {g["ReplicationGroupId"]: g for g in properties(prod, "AWS::ElastiCache::ReplicationGroup")}
    assert set(groups) == {"qis-prod-hot", "qis-prod-session", "qis-prod-compute"}
    for group in groups.values():
        assert group["TransitEncryptionMode"] == "required"
        assert group["AtRestEncryptionEnabled"] is True
        assert group["MultiAZEnabled"] is True
        assert group["UserGroupIds"]
        assert "AuthToken" not in group
    (user,) = properties(prod, "AWS::ElastiCache::User")
    assert user["AuthenticationMode"] == {"Type": "iam"}
    assert user["UserId"] == user["UserName"]  # IAM asks for that
    assert "-@dangerous" in user["AccessString"]


def test_each_cache_evicts_as_its_purpose_asks(prod: Environment) -> None:
    groups = properties(prod, "AWS::ElastiCache::ParameterGroup")
    evicted = [group["Properties"]["maxmemory-policy"] for group in groups]
    assert evicted == ["allkeys-lru", "volatile-ttl", "allkeys-lfu"]


def test_reading_uses_the_hot_cache_and_no_other(prod: Environment) -> None:
    variables = prod.handlers()["query"]["Environment"]["Variables"]
    assert variables["QIS_CACHE_GROUP"] == "qis-prod-hot"
    assert flat(variables["QIS_CACHE_URL"]).startswith("valkeys://")
    connects = [
        flat(s["Resource"])
        for p in properties(prod, "AWS::IAM::ManagedPolicy")
        for s in p["PolicyDocument"]["Statement"]
        if s["Action"] == "elasticache:Connect"
    ]
    assert len(connects) == 1
    assert "replicationgroup:qis-prod-hot" in connects[0]
    assert "session" not in connects[0]


def test_kafka_is_kraft_over_tls_by_role_and_keeps_two_copies(reference: Environment) -> None:
    kafka = only(reference, "AWS::MSK::Cluster")["Properties"]
    assert kafka["KafkaVersion"].endswith(".kraft")
    assert kafka["NumberOfBrokerNodes"] == 6
    assert kafka["BrokerNodeGroupInfo"]["InstanceType"] == "kafka.m5.2xlarge"
    assert kafka["EncryptionInfo"]["EncryptionInTransit"] == {"ClientBroker": "TLS", "InCluster": True}
    assert kafka["ClientAuthentication"] == {
        "Sasl": {"Iam": {"Enabled": True}, "Scram": {"Enabled": True}},
        "Unauthenticated": {"Enabled": False},
    }
    configuration = only(reference, "AWS::MSK::Configuration")["Properties"]
    assert "min.insync.replicas=2" in configuration["ServerProperties"]


def test_passwords_of_kafka_are_as_msk_takes_them_and_rotate(reference: Environment) -> None:
    secrets = {
        i: r["Properties"]
        for i, r in reference.of_type("AWS::SecretsManager::Secret")
        if r["Properties"].get("Name", "").startswith("AmazonMSK_")
    }
    ((logical_id, secret),) = secrets.items()
    assert secret["Name"] == "AmazonMSK_qis-prodreference-consumers"
    assert "DataKeysData" in text(secret["KmsKeyId"]), "MSK refuses the default key of Secrets Manager"
    assert json.loads(secret["GenerateSecretString"]["SecretStringTemplate"]) == {"username": "consumers"}
    associated = only(reference, "AWS::MSK::BatchScramSecret")["Properties"]
    assert associated["SecretArnList"] == [{"Ref": logical_id}]
    (rotation,) = (
        r
        for r in properties(reference, "AWS::SecretsManager::RotationSchedule")
        if logical_id in text(r["SecretId"])
    )
    assert rotation["RotationRules"]["ScheduleExpression"] == "rate(90 days)"
    (policy,) = (
        p
        for p in properties(reference, "AWS::SecretsManager::ResourcePolicy")
        if logical_id in text(p["SecretId"])
    )
    (statement,) = policy["ResourcePolicy"]["Statement"]
    assert statement["Principal"] == {"Service": "kafka.amazonaws.com"}
    ports = {
        r["Properties"]["FromPort"]
        for i, r in reference.of_type("AWS::EC2::SecurityGroupIngress")
        if "NetworkKafka" in i
    }
    assert ports == {9096, 9098}


def test_documents_are_encrypted_audited_and_their_password_is_the_services(reference: Environment) -> None:
    cluster = only(reference, "AWS::DocDB::DBCluster")["Properties"]
    assert cluster["StorageEncrypted"] is True
    assert cluster["ManageMasterUserPassword"] is True
    assert "MasterUserPassword" not in cluster
    parameters = only(reference, "AWS::DocDB::DBClusterParameterGroup")["Properties"]["Parameters"]
    assert parameters["tls"] == parameters["audit_logs"] == "enabled"
    assert len(list(reference.of_type("AWS::DocDB::DBInstance"))) == 3


def test_time_series_of_a_new_account_are_private_and_have_a_standby(reference: Environment) -> None:
    series = only(reference, "AWS::Timestream::InfluxDBInstance")["Properties"]
    assert series["PubliclyAccessible"] is False
    assert series["DeploymentType"] == "WITH_MULTIAZ_STANDBY"
    assert "{{resolve:secretsmanager:" in flat(series["Password"])


def test_time_series_of_an_old_account_keep_official_values_seven_years(variant: Environment) -> None:
    tables = {t["TableName"]: t for t in properties(variant, "AWS::Timestream::Table")}
    official = tables["OfficialDataValues"]
    assert official["RetentionProperties"] == {
        "MemoryStoreRetentionPeriodInHours": "168",
        "MagneticStoreRetentionPeriodInDays": "2555",
    }
    rejected = official["MagneticStoreWriteProperties"]["MagneticStoreRejectedDataLocation"]
    assert "DataLakeRejected" in flat(rejected["S3Configuration"]["BucketName"])


def test_search_is_inside_the_network_over_tls(reference: Environment) -> None:
    domain = only(reference, "AWS::OpenSearchService::Domain")["Properties"]
    assert domain["DomainEndpointOptions"]["EnforceHTTPS"] is True
    assert domain["NodeToNodeEncryptionOptions"] == {"Enabled": True}
    assert len(domain["VPCOptions"]["SubnetIds"]) == 3


def test_shared_files_are_encrypted_and_no_user_is_root(reference: Environment) -> None:
    assert only(reference, "AWS::EFS::FileSystem")["Properties"]["Encrypted"] is True
    assert only(reference, "AWS::EFS::AccessPoint")["Properties"]["PosixUser"]["Uid"] != "0"


def test_every_store_is_reached_from_groups_at_one_port_only(environment: Environment) -> None:
    for logical_id, rule in environment.of_type("AWS::EC2::SecurityGroupIngress"):
        given = rule["Properties"]
        if "DataNetwork" not in logical_id:
            continue
        assert "SourceSecurityGroupId" in given, logical_id
        assert given["FromPort"] == given["ToPort"], logical_id


def test_secrets_of_providers_have_no_value_in_a_template(prod: Environment) -> None:
    made = [s for s in properties(prod, "AWS::SecretsManager::Secret") if "provider" in s.get("Name", "")]
    assert len(made) == 3
    assert all("SecretString" not in s and "GenerateSecretString" not in s for s in made)


# Streams and the bus


def test_streams_have_the_sizes_of_the_document(prod: Environment, reference: Environment) -> None:
    for environment in (prod, reference):
        stem = load(environment.name).stem
        made = {
            s["Name"].removeprefix(f"{stem}-"): (s["ShardCount"], s["RetentionPeriodHours"])
            for s in properties(environment, "AWS::Kinesis::Stream")
        }
        assert {k: v for k, v in made.items() if k != "events"} == {
            "ingest": (10, 168),
            "alerts": (2, 24),
            "audit": (5, 168),
        }


def test_what_went_over_the_bus_can_be_replayed(prod: Environment) -> None:
    assert only(prod, "AWS::Events::Archive")["Properties"]["RetentionDays"] == 90


def test_another_account_may_make_its_own_rules_for_official_values_only(variant: Environment) -> None:
    statement = only(variant, "AWS::Events::EventBusPolicy")["Properties"]["Statement"]
    assert SUBSCRIBER in flat(statement["Principal"])
    assert "events:PutEvents" not in statement["Action"]
    condition = statement["Condition"]["StringEqualsIfExists"]
    assert condition["events:creatorAccount"] == SUBSCRIBER
    assert condition["events:detail-type"] == ["com.qis.data.published.v1", "com.qis.data.restated.v1"]


# Releases


def test_a_new_version_takes_over_by_steps_and_an_alarm_takes_it_back(prod: Environment) -> None:
    groups = {g["DeploymentGroupName"]: g for g in properties(prod, "AWS::CodeDeploy::DeploymentGroup")}
    assert set(groups) == {
        f"qis-prod-{n}" for n in ("ingest", "reconcile", "publish", "quality", "query", "realtime", "relay")
    }
    for name, group in groups.items():
        assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent10Minutes"
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        assert len(group["AlarmConfiguration"]["Alarms"]) == 1, name
    for _, alias in prod.of_type("AWS::Lambda::Alias"):
        policy = alias.get("UpdatePolicy", {})
        migrating = "Migrate" in flat(alias["Properties"]["FunctionName"])
        assert ("CodeDeployLambdaAliasUpdate" in policy) != migrating


def test_everything_invokes_the_released_version(prod: Environment) -> None:
    for logical_id, source in prod.of_type("AWS::Lambda::EventSourceMapping"):
        assert "Live" in flat(source["Properties"]["FunctionName"]), logical_id
    for logical_id, permission in prod.of_type("AWS::Lambda::Permission"):
        assert "Live" in flat(permission["Properties"]["FunctionName"]), logical_id
    for logical_id, rule in prod.of_type("AWS::Events::Rule"):
        if "ScheduleExpression" in rule["Properties"]:
            assert all("Live" in flat(t["Arn"]) for t in rule["Properties"]["Targets"]), logical_id


def test_what_people_wait_for_starts_warm(prod: Environment, variant: Environment) -> None:
    snapped = {n for n, p in prod.handlers().items() if "SnapStart" in p}
    assert snapped == {"ingest", "query"}
    (warm,) = (a for a in properties(variant, "AWS::Lambda::Alias") if "ProvisionedConcurrencyConfig" in a)
    assert "Query" in flat(warm["FunctionName"])
    assert warm["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": 5}


def test_the_second_region_waits_until_it_is_made_active(dr: Environment) -> None:
    sources = properties(dr, "AWS::Lambda::EventSourceMapping")
    assert [s["Enabled"] for s in sources] == [False] * 5
    schedules = [r for r in properties(dr, "AWS::Events::Rule") if "ScheduleExpression" in r]
    assert [s["State"] for s in schedules] == ["DISABLED"] * len(schedules)
    assert list(dr.of_type("Custom::Trigger")) == []
    host = flat(dr.handlers()["query"]["Environment"]["Variables"]["QIS_DATABASE_HOST"])
    assert "ReadEndpoint" in host


# People and the API


def test_people_sign_in_with_a_code_and_their_tokens_only_read(prod: Environment) -> None:
    clients = {flat(c["ClientName"]): c for c in properties(prod, "AWS::Cognito::UserPoolClient")}
    people = clients["qis-prod-people"]
    assert people["GenerateSecret"] is False
    assert people["AllowedOAuthFlows"] == ["code"]
    scopes = [flat(s) for s in people["AllowedOAuthScopes"]]
    assert [s for s in scopes if ":data" in s] == [s for s in scopes if s.endswith("read:data")]
    assert people["RefreshTokenValidity"] == 30 * 24 * 60
    (pool,) = properties(prod, "AWS::Cognito::UserPool")
    assert pool["MfaConfiguration"] == "ON"


def test_groups_give_roles_and_only_who_writes_may_put_files(prod: Environment) -> None:
    groups = sorted(properties(prod, "AWS::Cognito::UserPoolGroup"), key=lambda g: g["Precedence"])
    assert [g["GroupName"] for g in groups] == ["data-admin", "data-publisher", "data-writer", "data-reader"]
    assert all(g["RoleArn"] for g in groups)
    (attached,) = properties(prod, "AWS::Cognito::IdentityPoolRoleAttachment")
    assert attached["RoleMappings"]["people"]["AmbiguousRoleResolution"] == "Deny"
    puts = {
        logical_id
        for logical_id, policy in prod.of_type("AWS::IAM::ManagedPolicy")
        if "DataIdentity" in logical_id and "s3:PutObject" in text(policy["Properties"])
    }
    assert len(puts) == 3
    assert not any("Reader" in logical_id for logical_id in puts)
    assert only(prod, "AWS::Cognito::IdentityPool")["Properties"]["AllowUnauthenticatedIdentities"] is False


def test_each_kind_of_client_has_its_plan_and_no_key_is_in_a_template(prod: Environment) -> None:
    plans = {p["UsagePlanName"]: p for p in properties(prod, "AWS::ApiGateway::UsagePlan")}
    assert plans["qis-prod-standard"]["Throttle"] == {"BurstLimit": 1000, "RateLimit": 500}
    assert plans["qis-prod-premium"]["Quota"] == {"Limit": 200_000_000, "Period": "DAY"}
    assert list(prod.of_type("AWS::ApiGateway::ApiKey")) == []


def test_the_custom_domain_is_the_front_doors_where_there_is_one(
    environments: dict[str, Environment],
) -> None:
    """The API behind it answers CloudFront alone, so a domain of its own would only lead to refusals."""
    prod, dr = environments["prod"], environments["dr"]
    assert list(prod.of_type("AWS::ApiGateway::DomainName")) == []
    front = only(prod, "AWS::CloudFront::Distribution")["Properties"]["DistributionConfig"]
    assert front["Aliases"] == [load("prod").api.domain]
    assert front["ViewerCertificate"]["MinimumProtocolVersion"].startswith("TLSv1.2_2021")
    own = only(dr, "AWS::ApiGateway::DomainName")["Properties"]
    assert own["DomainName"] == load("dr").api.domain
    assert "TLS13_1_3" in own["SecurityPolicy"]


def test_what_reaches_the_api_came_through_the_front_door(prod: Environment) -> None:
    """Anything without the header that only CloudFront knows is blocked, and the header is a secret."""
    acls = {r["Properties"]["Scope"]: r["Properties"] for _, r in prod.of_type("AWS::WAFv2::WebACL")}
    guard = acls["REGIONAL"]
    assert guard["DefaultAction"] == {"Block": {}}
    (rule,) = guard["Rules"]
    match = rule["Statement"]["ByteMatchStatement"]
    assert "resolve:secretsmanager" in str(match["SearchString"])
    front = only(prod, "AWS::CloudFront::Distribution")["Properties"]["DistributionConfig"]
    sent = [h for o in front["Origins"] for h in o.get("OriginCustomHeaders", [])]
    assert [(h["HeaderName"], h["HeaderValue"]) for h in sent] == [
        (match["FieldToMatch"]["SingleHeader"]["Name"], match["SearchString"])
    ]
    assert "Stage" in str(only(prod, "AWS::WAFv2::WebACLAssociation")["Properties"]["ResourceArn"])
