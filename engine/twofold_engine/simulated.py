"""A worker whose engine has no model: ``python -m twofold_sim engine``, which serves, announces
itself and is steered as a worker with vLLM is."""

from twofold_engine.settings import WorkerSettings

MODULE = "twofold_sim"


def sim_argv(settings: WorkerSettings) -> list[str]:
    """Return the command line of the simulator's engine for *settings*.

    What is about a model's weights or a processor has no meaning there. ``engine_args`` are the
    simulator's own, and have its ``--profile``.
    """
    told = {
        "--service": settings.service,
        "--worker-id": settings.worker_id,
        "--role": settings.role,
        "--model": settings.served_name,
        "--revision": settings.revision,
        "--incarnation": settings.incarnation,
        "--host": settings.host,
        "--port": settings.port,
        "--max-unprefilled": settings.max_unprefilled,
        "--max-in-flight": settings.max_in_flight,
        "--lease-seconds": settings.lease_seconds,
        "--node": settings.node,
        "--zone": settings.zone,
        "--events-fd": settings.events_fd,
        "--parent-pid": settings.parent_pid,
    }
    argv = [f"{name}={value}" for name, value in told.items() if value is not None]
    return [
        "engine",
        *argv,
        *(["--kv-events"] * settings.kv_events),
        *(["--standby"] * settings.standby),
        *settings.engine_args,
    ]
