"""The kopf operator: LLMService resources to Ray pools, routers and services. Not built yet."""
