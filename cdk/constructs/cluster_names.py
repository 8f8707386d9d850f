"""What the cluster's constructs and its manifests both say."""

NAMESPACE = "qis"
BATCH_NAMESPACE = "qis-batch"
CLUSTER_PORT = 8443
"""Where pods listen, with TLS."""
