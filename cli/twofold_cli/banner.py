"""What a user needs to know of a cluster that is ready."""

import json
import shlex
from pathlib import Path

from twofold_cli.api_key import KEY_VARIABLE
from twofold_cli.state import ClusterState
from twofold_cluster.identity import Role


def banner(state: ClusterState, logs: Path, *, detached: bool) -> list[str]:
    """Return the lines; one of them is a command to copy."""
    with_key = f" with an API key in ${KEY_VARIABLE}" if state.wants_keys else ""
    stop = "twofold down" if detached else "Ctrl-C, or twofold down"
    return [
        "",
        f"{state.served_name} is ready at {state.endpoint}/v1",
        f"  prefill  {_workers(state, Role.PREFILL)}",
        f"  decode   {_workers(state, Role.DECODE)}",
        f"  logs     {logs}",
        f"  stop     {stop}",
        "",
        f"Try it{with_key}: twofold chat, or",
        "",
        curl(state),
        "",
    ]


def curl(state: ClusterState) -> str:
    """Return a request that shows the headers too: they say which workers served it."""
    body = {
        "model": state.served_name,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 32,
    }
    # In double quotes, for the shell to put the key in.
    key = f'-H "authorization: Bearer ${KEY_VARIABLE}" ' if state.wants_keys else ""
    return (
        f"curl -i {state.endpoint}/v1/chat/completions "
        f"{key}-H 'content-type: application/json' -d {shlex.quote(json.dumps(body))}"
    )


def _workers(state: ClusterState, role: Role) -> str:
    names = [worker.worker_id for worker in state.workers if worker.role is role]
    return ", ".join(names) or "none: prompts are computed where the answer is generated"
