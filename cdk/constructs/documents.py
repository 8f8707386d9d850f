"""DocumentDB: complex values, for consumers that speak MongoDB's protocol."""

from __future__ import annotations

from aws_cdk import aws_docdb as docdb
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.constructs.network import ISOLATED, Network
from cdk.environments.stores import Documents as DocumentsSettings

PORT = 27_018


class Documents(Construct):
    """Cluster, its parameters, logs and instances. The service keeps and rotates the administrator's
    password."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: DocumentsSettings, network: Network
    ) -> None:
        super().__init__(scope, id_)
        identifier = house.name("documents")
        logs = [
            house.log_group(self, f"Logs{kind.capitalize()}", name=f"/aws/docdb/{identifier}/{kind}")
            for kind in ("audit", "profiler")
        ]
        subnets = docdb.CfnDBSubnetGroup(
            self,
            "Subnets",
            db_subnet_group_description=f"{identifier}: isolated subnets",
            subnet_ids=network.vpc.select_subnets(subnet_type=ISOLATED.subnet_type).subnet_ids,
        )
        parameters = docdb.CfnDBClusterParameterGroup(
            self,
            "Parameters",
            description=f"{identifier}: TLS only, audited, slow operations logged",
            family="docdb5.0",
            parameters={"tls": "enabled", "audit_logs": "enabled", "profiler": "enabled"},
        )
        key = house.data_key.key_arn if house.data_key else None
        self.cluster = docdb.CfnDBCluster(
            self,
            "Cluster",
            db_cluster_identifier=identifier,
            engine_version=settings.engine_version,
            master_username="qis_admin",
            manage_master_user_password=True,
            master_user_secret_kms_key_id=key,
            db_cluster_parameter_group_name=parameters.ref,
            db_subnet_group_name=subnets.ref,
            vpc_security_group_ids=[
                network.store_group("Documents", port=PORT, what="documents").security_group_id
            ],
            port=PORT,
            storage_encrypted=True,
            kms_key_id=key,
            backup_retention_period=settings.backup_retention_days,
            preferred_backup_window="02:00-03:00",
            preferred_maintenance_window="sun:03:00-sun:04:00",
            copy_tags_to_snapshot=True,
            deletion_protection=settings.deletion_protection,
            enable_cloudwatch_logs_exports=["audit", "profiler"],
        )
        self.cluster.apply_removal_policy(house.removal)
        self.cluster.node.add_dependency(*logs)  # or the service makes them, without key and retention
        audited = "These are kinds of events inside the audit log, which is on; the service has no such logs."
        acknowledge(
            self.cluster,
            {
                "AwsSolutions-DOC3": "The service makes, keeps and rotates the password in Secrets Manager.",
                "AwsSolutions-DOC5[LogExport::authenticate]": audited,
                "AwsSolutions-DOC5[LogExport::createIndex]": audited,
                "AwsSolutions-DOC5[LogExport::dropCollection]": audited,
            },
        )
        for n in range(1, settings.instances + 1):
            docdb.CfnDBInstance(
                self,
                f"Instance{n}",
                db_cluster_identifier=self.cluster.ref,
                db_instance_class=f"db.{settings.instance}",
                auto_minor_version_upgrade=True,
            )
