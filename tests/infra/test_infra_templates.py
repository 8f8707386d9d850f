"""One test per risk, on the templates of every environment."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cdk.environments import load
from qis.settings import FUNCTIONS
from tests.infra.synthesis import Environment, synthesise
from tests.infra.walk import as_list, statements, text

# Who may do what


def test_each_function_may_do_what_it_needs_and_not_what_others_need(dev: Environment) -> None:
    may: dict[str, set[str]] = {name: set() for name in FUNCTIONS}
    for logical_id, policy in dev.of_type("AWS::IAM::ManagedPolicy"):
        name = next((n for n in FUNCTIONS if logical_id.startswith(f"Service{n.capitalize()}Policy")), None)
        if name:
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                may[name] |= set(as_list(statement["Action"]))
    assert {n for n, actions in may.items() if "rds-db:connect" in actions} == set(FUNCTIONS) - {"publish"}
    assert {n for n, actions in may.items() if "events:PutEvents" in actions} == {"publish"}
    assert {n for n, actions in may.items() if "kinesis:PutRecords" in actions} == {"relay"}
    readers = {"ingest", "reconcile", "publish", "quality", "realtime"}
    assert {n for n, actions in may.items() if "kinesis:GetRecords" in actions} == readers
    assert {n for n, actions in may.items() if "s3:PutObject" in actions} == {"relay"}
    assert {n for n, actions in may.items() if "execute-api:ManageConnections" in actions} == {"realtime"}
    assert not any("s3:GetObject" in actions for actions in may.values())


def test_only_migrate_signs_in_as_the_owner_of_the_schema(dev: Environment) -> None:
    users = {
        name: p["Environment"]["Variables"].get("QIS_DATABASE_USER") for name, p in dev.handlers().items()
    }
    assert {name for name, user in users.items() if user == "qis_migrate"} == {"migrate"}
    for logical_id, policy in dev.of_type("AWS::IAM::ManagedPolicy"):
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if "rds-db:connect" in as_list(statement["Action"]):
                assert ("/qis_migrate" in text(statement)) == ("Migrate" in logical_id)


# What is kept, and how


def test_streams_queues_and_buckets_are_encrypted(environment: Environment) -> None:
    for _, stream in environment.of_type("AWS::Kinesis::Stream"):
        assert stream["Properties"]["StreamEncryption"]["EncryptionType"] == "KMS"
    for _, queue in environment.of_type("AWS::SQS::Queue"):
        properties = queue["Properties"]
        assert properties.get("SqsManagedSseEnabled") or properties.get("KmsMasterKeyId")
    for _, bucket in environment.of_type("AWS::S3::Bucket"):
        assert bucket["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]


def test_in_aws_data_and_logs_have_customer_keys_that_rotate(dev: Environment) -> None:
    for _, key in dev.of_type("AWS::KMS::Key"):
        assert key["Properties"]["EnableKeyRotation"] is True
    for _, stream in dev.of_type("AWS::Kinesis::Stream"):
        assert "DataKeysData" in text(stream["Properties"]["StreamEncryption"]["KeyId"])
    for logical_id, group in dev.of_type("AWS::Logs::LogGroup"):
        assert "DataKeysLogs" in text(group["Properties"]["KmsKeyId"]), logical_id
    raw = next(r for i, r in dev.of_type("AWS::S3::Bucket") if "Raw" in i)
    assert "DataKeysData" in text(raw["Properties"]["BucketEncryption"])
    for _, topic in dev.of_type("AWS::SNS::Topic"):
        assert "DataKeysData" in text(topic["Properties"]["KmsMasterKeyId"])


def test_buckets_are_private_and_versioned(environment: Environment) -> None:
    closed = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    for _, bucket in environment.of_type("AWS::S3::Bucket"):
        properties = bucket["Properties"]
        assert properties["PublicAccessBlockConfiguration"] == dict.fromkeys(closed, True)
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}


def test_queues_and_buckets_refuse_plain_connections(environment: Environment) -> None:
    denials = sum(
        s.kind == "resource" and s.effect == "Deny" and "aws:SecureTransport" in text(s.condition)
        for template in environment.templates.values()
        for s in statements(template)
    )
    guarded = len(list(environment.of_type("AWS::SQS::Queue", "AWS::S3::Bucket", "AWS::SNS::Topic")))
    assert denials == guarded


def test_log_groups_expire(environment: Environment) -> None:
    days = load(environment.name).log_retention_days
    for logical_id, group in environment.of_type("AWS::Logs::LogGroup"):
        assert group["Properties"]["RetentionInDays"] == days, logical_id


def test_the_database_is_protected_and_out_of_reach(dev: Environment) -> None:
    ((_, cluster),) = dev.of_type("AWS::RDS::DBCluster")
    properties = cluster["Properties"]
    assert properties["StorageEncrypted"] is True
    assert properties["EnableIAMDatabaseAuthentication"] is True
    assert properties["DeletionProtection"] is True
    assert properties["ManageMasterUserPassword"] is True
    assert properties["BackupRetentionPeriod"] == 7
    for _, instance in dev.of_type("AWS::RDS::DBInstance"):
        assert instance["Properties"]["PubliclyAccessible"] is False
    ((_, parameters),) = dev.of_type("AWS::RDS::DBClusterParameterGroup")
    assert parameters["Properties"]["Parameters"]["rds.force_ssl"] == "1"
    # An open transaction of any session stalls the followers of the log.
    assert parameters["Properties"]["Parameters"]["idle_in_transaction_session_timeout"] == "60000"


def test_nothing_can_be_reached_from_outside_the_network(dev: Environment) -> None:
    for logical_id, group in dev.of_type("AWS::EC2::SecurityGroup"):
        assert "SecurityGroupIngress" not in group["Properties"], logical_id
    rules = list(dev.of_type("AWS::EC2::SecurityGroupIngress"))
    assert len(rules) == 1
    assert "SourceSecurityGroupId" in rules[0][1]["Properties"]
    for _, subnet in dev.of_type("AWS::EC2::Subnet"):
        assert subnet["Properties"]["MapPublicIpOnLaunch"] is False


def test_every_function_is_in_its_segment(dev: Environment) -> None:
    for name, properties in dev.handlers().items():
        assert "DataNetworkFunctions" in text(properties["VpcConfig"]["SecurityGroupIds"]), name
        assert "functionsSubnet" in text(properties["VpcConfig"]["SubnetIds"]), name


def test_the_data_stack_cannot_be_deleted_by_mistake(dev: Environment) -> None:
    manifest = json.loads((dev.outdir / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["artifacts"]["qis-dev-data"]["properties"]["terminationProtection"] is True


# Functions and what feeds them


def test_a_function_has_exactly_the_variables_of_its_settings_class(environment: Environment) -> None:
    handlers = environment.handlers()
    assert set(handlers) == set(FUNCTIONS)
    for name, properties in handlers.items():
        given = properties["Environment"]["Variables"]
        assert {v for v in given if v.startswith("QIS_")} == set(FUNCTIONS[name].variables()), name
        assert given["POWERTOOLS_SERVICE_NAME"] == f"qis-{name}"
        assert given["POWERTOOLS_METRICS_NAMESPACE"] == "QIS"


def test_a_function_reads_the_variables_that_the_twin_fills_in(environments: dict[str, Environment]) -> None:
    filled = {
        "DatabaseHost": "127.0.0.1",
        "DatabasePort": "5432",
        "CacheUrl": "",
        "JwksUrl": "http://127.0.0.1/k",
        "PushEndpoint": "http://127.0.0.1/live",
    }

    def value(given: Any) -> str:
        return filled.get(given["Ref"], given["Ref"]) if isinstance(given, dict) else given

    for name, properties in environments["local"].handlers().items():
        settings = FUNCTIONS[name].read(
            {variable: value(v) for variable, v in properties["Environment"]["Variables"].items()}
        )
        assert settings.environment == "local"


def test_functions_are_traced_bounded_and_log_to_their_group(environment: Environment) -> None:
    for name, properties in environment.handlers().items():
        assert properties["Runtime"] == "python3.13", name
        assert properties["Architectures"] == ["arm64"], name
        assert properties["TracingConfig"] == {"Mode": "Active"}, name
        assert properties["ReservedConcurrentExecutions"] >= 1, name
        assert "Ref" in properties["LoggingConfig"]["LogGroup"], name


def test_every_event_source_gives_up_and_tells(environment: Environment) -> None:
    sources = list(environment.of_type("AWS::Lambda::EventSourceMapping"))
    assert len(sources) == 5
    for logical_id, source in sources:
        properties = source["Properties"]
        assert 0 <= properties["MaximumRetryAttempts"] <= 10, logical_id
        assert 60 <= properties["MaximumRecordAgeInSeconds"] <= 86_400, logical_id
        assert properties["BisectBatchOnFunctionError"] is True, logical_id
        assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"], logical_id
        assert "Dlq" in text(properties["DestinationConfig"]["OnFailure"]["Destination"]), logical_id
        assert properties["StartingPosition"] == "TRIM_HORIZON", logical_id


def test_every_rule_keeps_what_it_cannot_deliver(environment: Environment) -> None:
    rules = list(environment.of_type("AWS::Events::Rule"))
    # Four domains and three schedules; in AWS people are told, the lake is fed, and the stream `alerts`.
    assert len(rules) == {"local": 7, "dev": 9}.get(environment.name, 10)
    for logical_id, rule in rules:
        for target in rule["Properties"]["Targets"]:
            assert "BusDlq" in text(target["DeadLetterConfig"]), logical_id
            assert target["RetryPolicy"]["MaximumRetryAttempts"] <= 10, logical_id


def test_a_scheduled_run_that_fails_is_kept_and_not_repeated(environment: Environment) -> None:
    configs = list(environment.of_type("AWS::Lambda::EventInvokeConfig"))
    told = {}
    for _, config in configs:
        assert config["Properties"]["MaximumRetryAttempts"] == 0
        told[text(config["Properties"]["FunctionName"])] = text(config["Properties"]["DestinationConfig"])
    assert sum("BusDlq" in destination for destination in told.values()) == 2
    # Without the relay nothing flows: another run follows one that fails at once, not with the next minute.
    (again,) = [destination for function, destination in told.items() if "Relay" in function]
    assert re.search(r":function:qis-[a-z]+-relay\b", again)


def test_migrations_run_before_any_other_function_changes(dev: Environment) -> None:
    ((trigger, _),) = dev.of_type("Custom::Trigger")
    for logical_id, function in dev.of_type("AWS::Lambda::Function"):
        if function["Properties"]["Handler"].startswith("lambdas.") and "Migrate" not in logical_id:
            assert trigger in function["DependsOn"]
    for types in ("AWS::Lambda::EventSourceMapping", "AWS::ApiGateway::Stage", "AWS::ApiGatewayV2::Stage"):
        for _, resource in dev.of_type(types):
            assert trigger in resource["DependsOn"]


# The templates as a whole


def test_the_local_twin_can_make_everything_in_its_template(environments: dict[str, Environment]) -> None:
    local = environments["local"].templates
    assert list(local) == ["qis-local"]
    given = {"DatabaseHost", "DatabasePort", "CacheUrl", "JwksUrl", "PushEndpoint"}
    assert set(local["qis-local"]["Parameters"]) == given
    services = {r["Type"].split("::")[1] for r in local["qis-local"]["Resources"].values()}
    made = {
        "Kinesis",
        "Lambda",
        "SQS",
        "Events",
        "S3",
        "ApiGateway",
        "ApiGatewayV2",
        "Logs",
        "CloudWatch",
        "IAM",
    }
    assert services == made


def test_names_of_the_environment_do_not_meet_those_of_another(environments: dict[str, Environment]) -> None:
    stems = {name: load(name).stem for name in environments}
    second = {
        "qis-dr-backups",
        "qis-dr-backups-",
        "qis-dr-lake-",
        "qis-dr-data",
    }  # where copies go, and their key
    allowed = {"dr": {"qis-prod-global"}, "prod": second, "prod-reference": second}
    for name, environment in environments.items():
        found = set(re.findall(r"qis-[a-z0-9]+-[a-z-]+", text(environment.templates)))
        others = {n for n in found for o in set(stems) - {name} if n.startswith(f"{stems[o]}-")}
        assert others == allowed.get(name, set()), name


def test_the_same_source_gives_the_same_bytes(environment: Environment, tmp_path: Path) -> None:
    synthesise(environment.name, tmp_path)

    def files(folder: Path) -> dict[Path, bytes]:
        return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert files(tmp_path) == files(environment.outdir)


def test_the_committed_template_of_the_twin_is_current(environments: dict[str, Environment]) -> None:
    from cdk.local_template import TEMPLATE, canonical

    current = canonical(environments["local"].templates["qis-local"])
    assert TEMPLATE.read_text(encoding="utf-8") == current, "run python -m cdk.local_template"
