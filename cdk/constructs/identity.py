"""Who may call: a Cognito user pool, the scopes of the API, clients for machines and people, groups and what
their members may do in AWS itself."""

from __future__ import annotations

from typing import get_args

from aws_cdk import Aws, Duration
from aws_cdk import aws_cognito as cognito
from aws_cdk import aws_iam as iam
from constructs import Construct

from cdk.constructs.buckets import bucket_name
from cdk.constructs.house import House, acknowledge, finding, id_of
from cdk.environments.traffic import Identity as IdentitySettings
from cdk.environments.traffic import Scope

RESOURCE_SERVER = "qis"
GROUPS = ("data-admin", "data-publisher", "data-writer", "data-reader")
"""Most powerful first: who is in two acts as the first."""


class Identity(Construct):
    """User pool with MFA, resource server ``qis``, machine client with client credentials."""

    def __init__(self, scope: Construct, id_: str, *, house: House, settings: IdentitySettings) -> None:
        super().__init__(scope, id_)
        self.members: list[iam.Role] = []
        """What people get for AWS itself, a role for each group."""
        pool = self.pool = cognito.UserPool(
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
        clients = [client]
        if settings.sign_in_urls:
            people = self._people(house, settings, server, scopes["read:data"])
            self._groups(house, people)
            clients.append(people)
        self.issuer = f"https://cognito-idp.{Aws.REGION}.{Aws.URL_SUFFIX}/{pool.user_pool_id}"
        self.jwks_url = f"{self.issuer}/.well-known/jwks.json"
        self.audience = ",".join(c.user_pool_client_id for c in clients)
        """Access tokens of Cognito name the client that they were given to, no resource."""
        acknowledge(
            self.pool,
            {
                "AwsSolutions-COG8": "Threat protection needs the Plus plan and watches sign-ins of people; "
                "machines sign in here, and people with a second factor."
            },
        )

    def _people(
        self,
        house: House,
        settings: IdentitySettings,
        server: cognito.UserPoolResourceServer,
        reading: cognito.ResourceServerScope,
    ) -> cognito.UserPoolClient:
        """The client of the console: people sign in on Cognito's page and come back with a code.

        Its tokens only read. What changes data is asked for by machine clients, whose scopes are chosen one
        by one: Cognito gives every user of a client all the scopes of that client.
        """
        return self.pool.add_client(
            "People",
            user_pool_client_name=house.name("people"),
            generate_secret=False,  # a page in a browser keeps none; the code is bound by PKCE
            auth_flows=cognito.AuthFlow(user_srp=True),
            o_auth=cognito.OAuthSettings(
                flows=cognito.OAuthFlows(authorization_code_grant=True),
                scopes=[cognito.OAuthScope.OPENID, cognito.OAuthScope.resource_server(server, reading)],
                callback_urls=list(settings.sign_in_urls),
            ),
            supported_identity_providers=[cognito.UserPoolClientIdentityProvider.COGNITO],
            access_token_validity=Duration.minutes(settings.access_token_minutes),
            id_token_validity=Duration.minutes(settings.access_token_minutes),
            refresh_token_validity=Duration.days(settings.refresh_token_days),
            enable_token_revocation=True,
            prevent_user_existence_errors=True,
        )

    def _groups(self, house: House, client: cognito.UserPoolClient) -> None:
        """A group per role of the product, and the IAM role that its members get for AWS itself: everyone
        reads the lake, writers also put files where the ingestion finds them."""
        provider = self.pool.user_pool_provider_name
        identities = cognito.CfnIdentityPool(
            self,
            "Identities",
            identity_pool_name=house.name("people"),
            allow_unauthenticated_identities=False,
            allow_classic_flow=False,
            cognito_identity_providers=[
                cognito.CfnIdentityPool.CognitoIdentityProviderProperty(
                    client_id=client.user_pool_client_id,
                    provider_name=provider,
                    server_side_token_check=True,
                )
            ],
        )
        trust = iam.WebIdentityPrincipal(
            "cognito-identity.amazonaws.com",
            {
                "StringEquals": {"cognito-identity.amazonaws.com:aud": identities.ref},
                "ForAnyValue:StringLike": {"cognito-identity.amazonaws.com:amr": "authenticated"},
            },
        )
        buckets = f"arn:{Aws.PARTITION}:s3:::"
        files = {logical: buckets + bucket_name(house, logical) for logical in ("lake", "raw")}
        for order, name in enumerate(GROUPS):
            id_ = id_of(name)
            role = iam.Role(self, f"{id_}Role", assumed_by=trust, description=f"Members of {name}")
            self.members.append(role)
            policy = iam.ManagedPolicy(self, f"{id_}Policy", roles=[role])
            allowed = [f"{files['lake']}/*"]
            policy.add_statements(
                iam.PolicyStatement(actions=["s3:ListBucket"], resources=[files["lake"]]),
                iam.PolicyStatement(actions=["s3:GetObject"], resources=[f"{files['lake']}/*"]),
            )
            key_actions = ["kms:Decrypt"]
            if name != "data-reader":
                allowed.append(f"{files['raw']}/uploads/*")
                policy.add_statements(
                    iam.PolicyStatement(actions=["s3:PutObject"], resources=[f"{files['raw']}/uploads/*"])
                )
                key_actions.append("kms:GenerateDataKey")
            policy.add_statements(*house.key_use(*key_actions, via=["s3"]))
            acknowledge(
                policy,
                {
                    f"AwsSolutions-IAM5[Resource::{finding(arn)}]": "Objects of one bucket or folder."
                    for arn in allowed
                },
            )
            cognito.CfnUserPoolGroup(
                self,
                id_,
                user_pool_id=self.pool.user_pool_id,
                group_name=name,
                precedence=order,
                role_arn=role.role_arn,
            )
        cognito.CfnIdentityPoolRoleAttachment(
            self,
            "Roles",
            identity_pool_id=identities.ref,
            role_mappings={
                "people": cognito.CfnIdentityPoolRoleAttachment.RoleMappingProperty(
                    type="Token",
                    ambiguous_role_resolution="Deny",
                    identity_provider=f"{provider}:{client.user_pool_client_id}",
                )
            },
        )
