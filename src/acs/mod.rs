//! The client of the ACS identity service. Knows nothing of Kubernetes.
