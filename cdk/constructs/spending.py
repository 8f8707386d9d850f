"""What may be spent: a budget, and who is told when spending is unusual."""

from __future__ import annotations

from aws_cdk import Aws
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_ce as ce
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

from cdk.constructs.house import House
from cdk.environments.operations import Cost

TAG = "qis:environment"
"""On every resource; must be activated once as a cost allocation tag of the account."""
COST_SERVICES = ("budgets.amazonaws.com", "costalerts.amazonaws.com")


class Spending(Construct):
    """Told at 80 % of the month's budget, when the forecast is above it, and of any anomaly above a sum.

    Budget and anomaly monitor see only what bears the environment's tag.
    """

    def __init__(self, scope: Construct, id_: str, *, house: House, settings: Cost) -> None:
        super().__init__(scope, id_)
        topic = sns.Topic(
            self, "Topic", topic_name=house.name("cost"), master_key=house.data_key, enforce_ssl=True
        )
        for service in COST_SERVICES:
            topic.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal(service)],
                    actions=["sns:Publish"],
                    resources=[topic.topic_arn],
                    conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
                )
            )
        told = budgets.CfnBudget.SubscriberProperty(subscription_type="SNS", address=topic.topic_arn)
        budget = budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=house.name("monthly"),
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=settings.monthly_usd, unit="USD"),
                cost_filters={"TagKeyValue": [f"user:{TAG}${house.settings.name}"]},
            ),
            notifications_with_subscribers=[
                _when(kind, percent, told) for kind, percent in (("ACTUAL", 80), ("FORECASTED", 100))
            ],
        )
        # Both services try the topic when they are made.
        budget.node.add_dependency(topic)
        monitor = ce.CfnAnomalyMonitor(
            self,
            "Monitor",
            monitor_name=house.name("anomalies"),
            monitor_type="CUSTOM",
            monitor_specification=f'{{"Tags":{{"Key":"{TAG}","Values":["{house.settings.name}"]}}}}',
        )
        subscription = ce.CfnAnomalySubscription(
            self,
            "Subscription",
            subscription_name=house.name("anomalies"),
            frequency="IMMEDIATE",
            monitor_arn_list=[monitor.attr_monitor_arn],
            subscribers=[ce.CfnAnomalySubscription.SubscriberProperty(type="SNS", address=topic.topic_arn)],
            threshold_expression=(
                '{"Dimensions":{"Key":"ANOMALY_TOTAL_IMPACT_ABSOLUTE",'
                f'"MatchOptions":["GREATER_THAN_OR_EQUAL"],"Values":["{settings.anomaly_usd}"]}}}}'
            ),
        )
        subscription.node.add_dependency(topic)


def _when(
    kind: str, percent: int, told: budgets.CfnBudget.SubscriberProperty
) -> budgets.CfnBudget.NotificationWithSubscribersProperty:
    return budgets.CfnBudget.NotificationWithSubscribersProperty(
        notification=budgets.CfnBudget.NotificationProperty(
            notification_type=kind,
            comparison_operator="GREATER_THAN",
            threshold=percent,
            threshold_type="PERCENTAGE",
        ),
        subscribers=[told],
    )
