"""The CRDs, made of the types: ``python -m twofold_operator.resources.crds``."""

from twofold_operator.resources.crds.definitions import custom_resource_definitions

__all__ = ["custom_resource_definitions"]
