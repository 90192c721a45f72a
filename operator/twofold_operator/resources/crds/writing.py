"""The CRDs as files."""

import yaml

from twofold_operator.resources.crds.definitions import custom_resource_definitions

_HEADER = "# Made by scripts/generate from operator/twofold_operator/resources; do not edit.\n"


def crd_files() -> dict[str, str]:
    """Return the YAML of each CRD by the name of its file."""
    return {
        f"{manifest['spec']['names']['plural']}.yaml": _HEADER
        + yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=96, allow_unicode=True)
        for manifest in custom_resource_definitions()
    }


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice: Kubernetes' tools need not know YAML's anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True
