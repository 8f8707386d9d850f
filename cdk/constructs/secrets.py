"""Credentials of data providers: kept, encrypted, and filled in by whoever signs the contract."""

from __future__ import annotations

from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.environments.traffic import Secrets as SecretsSettings


class Secrets(Construct):
    """One secret per provider, made empty: no template ever holds a credential.

    Passwords that are ours to choose are elsewhere and rotate: with the store that they open.
    """

    def __init__(self, scope: Construct, id_: str, *, house: House, settings: SecretsSettings) -> None:
        super().__init__(scope, id_)
        self.providers: dict[str, secretsmanager.CfnSecret] = {}
        for name in settings.providers:
            secret = secretsmanager.CfnSecret(
                self,
                name.capitalize(),
                name=house.name(f"provider-{name}"),
                description=f"Credentials that {name} gave us",
                kms_key_id=house.data_key.key_arn if house.data_key else None,
            )
            secret.apply_removal_policy(house.removal)
            issued = (
                "The provider issues it: `docs/deploying.md` says how a new one is put in, without a stop."
            )
            acknowledge(
                secret,
                {"AwsSolutions-SMG4": issued, "NIST.800.53.R5-SecretsManagerRotationEnabled": issued},
            )
            self.providers[name] = secret
