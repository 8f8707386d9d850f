"""Function of Secrets Manager: a new password for a user of Kafka. MSK reads the current version by itself.

Shipped as text in the template, so it imports nothing of ours.
"""

import json
from typing import Any


def handler(event: dict[str, Any], context: object, client: Any = None) -> None:  # noqa: ARG001 -- Lambda's
    """The steps of a rotation. Nothing is set elsewhere: MSK checks passwords against the secret."""
    if client is None:
        import boto3

        client = boto3.client("secretsmanager")
    secret, token, step = event["SecretId"], event["ClientRequestToken"], event["Step"]
    stages = client.describe_secret(SecretId=secret)["VersionIdsToStages"]
    if "AWSCURRENT" in stages.get(token, ()):
        return
    if step == "createSecret":
        if "AWSPENDING" in stages.get(token, ()) and _has_value(client, secret, token):
            return
        current = json.loads(client.get_secret_value(SecretId=secret)["SecretString"])
        made = client.get_random_password(PasswordLength=40, ExcludePunctuation=True)
        client.put_secret_value(
            SecretId=secret,
            ClientRequestToken=token,
            SecretString=json.dumps({**current, "password": made["RandomPassword"]}),
            VersionStages=["AWSPENDING"],
        )
    elif step == "finishSecret":
        old = next(version for version, of in stages.items() if "AWSCURRENT" in of)
        client.update_secret_version_stage(
            SecretId=secret, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=old
        )


def _has_value(client: Any, secret: str, token: str) -> bool:
    try:
        client.get_secret_value(SecretId=secret, VersionId=token, VersionStage="AWSPENDING")
    except client.exceptions.ResourceNotFoundException:
        return False
    return True
