"""The workers of one machine, in Kubernetes of one pod, drained before it goes."""
