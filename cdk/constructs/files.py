"""EFS: files that several containers share, over TLS, by access point."""

from __future__ import annotations

from aws_cdk import aws_efs as efs
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.constructs.network import ISOLATED, Network
from cdk.environments.stores import Files as FilesSettings

PORT = 2049
_USER = "1000"
_COLDER = {
    7: efs.LifecyclePolicy.AFTER_7_DAYS,
    14: efs.LifecyclePolicy.AFTER_14_DAYS,
    30: efs.LifecyclePolicy.AFTER_30_DAYS,
    60: efs.LifecyclePolicy.AFTER_60_DAYS,
    90: efs.LifecyclePolicy.AFTER_90_DAYS,
}


class Files(Construct):
    """File system with one access point, ``/shared``, for one unprivileged user."""

    def __init__(
        self, scope: Construct, id_: str, *, house: House, settings: FilesSettings, network: Network
    ) -> None:
        super().__init__(scope, id_)
        self.system = efs.FileSystem(
            self,
            "System",
            file_system_name=house.name("files"),
            vpc=network.vpc,
            vpc_subnets=ISOLATED,
            security_group=network.store_group("Files", port=PORT, what="shared files"),
            encrypted=True,
            kms_key=house.data_key,
            allow_anonymous_access=False,
            lifecycle_policy=_COLDER[settings.infrequent_after_days],
            out_of_infrequent_access_policy=efs.OutOfInfrequentAccessPolicy.AFTER_1_ACCESS,
            throughput_mode=efs.ThroughputMode.ELASTIC,
            enable_automatic_backups=settings.backups,
            removal_policy=house.removal,
        )
        acknowledge(
            self.system,
            {
                "NIST.800.53.R5-EFSInBackupPlan": (
                    "EFS puts it into AWS Backup by itself, each day, kept for five weeks."
                )
            },
        )
        self.shared = self.system.add_access_point(
            "Shared",
            path="/shared",
            create_acl=efs.Acl(owner_uid=_USER, owner_gid=_USER, permissions="0750"),
            posix_user=efs.PosixUser(uid=_USER, gid=_USER),
        )
