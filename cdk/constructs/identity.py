"""Who may call: a Cognito user pool, the scopes of the API, and a client for machines."""

from __future__ import annotations

from typing import get_args

from aws_cdk import Aws, Duration
from aws_cdk import aws_cognito as cognito
from constructs import Construct

from cdk.constructs.house import House, acknowledge
from cdk.environments.traffic import Identity as IdentitySettings
from cdk.environments.traffic import Scope

RESOURCE_SERVER = "qis"


class Identity(Construct):
    """User pool with MFA, resource server ``qis``, machine client with client credentials."""

    def __init__(self, scope: Construct, id_: str, *, house: House, settings: IdentitySettings) -> None:
        super().__init__(scope, id_)
        pool = cognito.UserPool(
            self,
            "Users",
            user_pool_name=house.name("users"),
            self_sign_up_enabled=False,
            sign_in_aliases=cognito.SignInAliases(email=True),
            mfa=cognito.Mfa.REQUIRED,
            mfa_second_factor=cognito.MfaSecondFactor(otp=True, sms=False),
            password_policy=cognito.PasswordPolicy(
                min_length=14,
                require_digits=True,
                require_lowercase=True,
                require_symbols=True,
                require_uppercase=True,
            ),
            account_recovery=cognito.AccountRecovery.EMAIL_ONLY,
            deletion_protection=house.settings.retain_data,
            removal_policy=house.removal,
        )
        scopes = {
            name: cognito.ResourceServerScope(scope_name=name, scope_description=f"{name} of the QIS API")
            for name in get_args(Scope)
        }
        server = pool.add_resource_server(
            "Api",
            identifier=RESOURCE_SERVER,
            user_pool_resource_server_name=house.name("api"),
            scopes=list(scopes.values()),
        )
        client = pool.add_client(
            "Machine",
            user_pool_client_name=house.name("machine"),
            generate_secret=True,
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(client_credentials=True),
                scopes=[
                    cognito.OAuthScope.resource_server(server, scopes[s]) for s in settings.machine_scopes
                ],
            ),
            access_token_validity=Duration.minutes(settings.access_token_minutes),
            enable_token_revocation=True,
            prevent_user_existence_errors=True,
        )
        pool.add_domain(
            "Domain",
            # Domain prefixes are global in a region: the account id makes ours unique.
            cognito_domain=cognito.CognitoDomainOptions(domain_prefix=f"{house.name('')}{Aws.ACCOUNT_ID}"),
        )
        self.issuer = f"https://cognito-idp.{Aws.REGION}.{Aws.URL_SUFFIX}/{pool.user_pool_id}"
        self.jwks_url = f"{self.issuer}/.well-known/jwks.json"
        self.audience = client.user_pool_client_id
        """Access tokens of Cognito name the client that they were given to, no resource."""
        acknowledge(
            pool,
            {
                "AwsSolutions-COG8": "Threat protection needs the Plus plan and watches sign-ins of people; "
                "machines sign in here."
            },
        )
