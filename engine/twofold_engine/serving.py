"""vLLM's engine and its OpenAI API in this process, announced once it has generated a token.

Imports vLLM, which takes seconds and reads the environment: import it last.
"""

import asyncio
import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import socket
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvicorn
from prometheus_client import REGISTRY
from vllm import __version__ as vllm_version
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.usage.usage_lib import UsageContext
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import StatLoggerBase

from twofold_cluster.listening import listening_socket
from twofold_cluster.worker import Engine, Topology, Worker, WorkerState
from twofold_engine.adapters import watch_adapters
from twofold_engine.announcing import AnnouncedWorker
from twofold_engine.chains import names_are_common
from twofold_engine.control import control_routes
from twofold_engine.events import Event, Reporter, Step
from twofold_engine.feeding import feed_directory
from twofold_engine.gate import Gate
from twofold_engine.kv_events import reachable
from twofold_engine.load import LoadMeter
from twofold_engine.naming import Naming
from twofold_engine.prefixes.serving import serving_prefixes
from twofold_engine.probing import generate_one_token
from twofold_engine.settings import WorkerSettings
from twofold_engine.vllm_arguments import vllm_arguments
from twofold_kvtransfer import service_address
from twofold_kvtransfer.compatibility import compatibility
from twofold_kvtransfer.settings import side_channel_address

EXIT_ENGINE_DIED = 70

SHUTDOWN_LIMIT_SECONDS = 10
"""For answers under way when the worker is told to end; a drain comes before, if time is given."""

_log = logging.getLogger(__name__)


async def serve(settings: WorkerSettings, reporter: Reporter) -> None:
    """Serve until SIGTERM.

    Raises:
        EngineStartError: the first token did not come.
        FencedError: a newer incarnation has taken the worker's id.
    """
    meter = LoadMeter()
    announced = AnnouncedWorker(settings, meter)
    arguments = _parse(vllm_arguments(settings))
    reporter.report(Event(Step.STARTING))
    async with _engine(arguments, meter, announced.refresh) as engine:
        tasks = await engine.get_supported_tasks()
        app = build_app(arguments, tasks, engine.model_config)
        await init_app_state(engine, app.state, arguments, tasks)
        # Others can make nothing of names that only this engine gives.
        algorithm: str = engine.vllm_config.cache_config.prefix_caching_hash_algo
        is_common = names_are_common(algorithm, os.environ)
        if settings.kv_events and not is_common:
            _log.warning("blocks are not listed: %s begins with a secret", algorithm)
        name = Naming(engine, tasks, app.state).name if is_common else None
        feed = functools.partial(
            feed_directory,
            settings.redis if is_common else None,
            max_holdings=settings.directory_holdings,
            registry=REGISTRY,  # what vLLM shows at /metrics
        )
        app.include_router(control_routes(announced, name))
        models = app.state.openai_serving_models
        watched = watch_adapters(app, lambda: announced.have_adapters(models.lora_requests))
        gate = Gate(watched, announced.admit, announced.refresh)
        with listening_socket(settings.host, settings.port) as listener:
            server = uvicorn.Server(
                uvicorn.Config(
                    gate,
                    log_level="warning",
                    access_log=False,
                    timeout_graceful_shutdown=SHUTDOWN_LIMIT_SECONDS,
                )
            )
            app.state.server = server  # where vLLM's handler of a dead engine looks for it
            adapters = tuple(sorted(models.lora_requests))
            describe = functools.partial(_describe, settings, engine, adapters)
            await _run(server, listener, announced, gate, settings, describe, feed, reporter)


async def _run(
    server: uvicorn.Server,
    listener: socket.socket,
    announced: AnnouncedWorker,
    gate: Gate,
    settings: WorkerSettings,
    describe: Callable[[str], Worker],
    feed: Callable[[Worker], Coroutine[Any, Any, None]],
    reporter: Reporter,
) -> None:
    stopping = _stop_signal()
    address = settings.url(listener.getsockname()[1])
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch_engine())
        serving = tasks.create_task(_serve_http(server, listener))
        reporter.report(Event(Step.PROBING))
        await generate_one_token(address, settings.served_name)
        worker = describe(address)
        known = [
            tasks.create_task(announced.run(worker, gate)),
            tasks.create_task(feed(worker)),
        ]
        async with serving_prefixes(worker, announced, settings.redis):
            reporter.report(Event(Step.READY, address=address, role=settings.role))
            await stopping.wait()
        for task in known:
            task.cancel()
        await asyncio.wait(known)
        server.should_exit = True
        await asyncio.wait([serving])
        watching.cancel()


@contextlib.asynccontextmanager
async def _engine(
    arguments: Namespace, meter: LoadMeter, on_change: Callable[[], None]
) -> AsyncIterator[AsyncLLM]:
    config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config(
        usage_context=UsageContext.OPENAI_API_SERVER
    )
    engine = AsyncLLM.from_vllm_config(
        vllm_config=config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        stat_loggers=[_stat_logger(meter, on_change)],
    )
    try:
        yield engine
    finally:
        engine.shutdown()


def _stat_logger(meter: LoadMeter, on_change: Callable[[], None]) -> Any:
    class MeterLogger(StatLoggerBase):  # type: ignore[misc]
        """Passes on what vLLM says of its steps."""

        def __init__(self, vllm_config: VllmConfig, engine_index: int = 0) -> None: ...

        def record(
            self, scheduler_stats: Any, iteration_stats: Any, *_: object, **__: object
        ) -> None:
            if scheduler_stats is not None:
                meter.step(
                    scheduler_stats.num_running_reqs,
                    scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs,
                    scheduler_stats.kv_cache_usage,
                )
            for finished in iteration_stats.finished_requests if iteration_stats else ():
                computed = finished.num_prompt_tokens - finished.num_cached_tokens
                meter.prefilled(finished.prefill_time, computed)
            on_change()

        def log_engine_initialized(self) -> None: ...

    return MeterLogger


async def _watch_engine() -> None:
    """Wait for the death of an engine process, then end this one at once.

    vLLM notices only with the next request. Nothing can be saved: an orderly end would wait for
    answers that never come, and closing the connections is what tells the routers.
    """
    died = asyncio.Event()
    loop = asyncio.get_running_loop()
    processes = multiprocessing.active_children()
    assert processes, "vLLM started no engine process"
    for process in processes:
        loop.add_reader(process.sentinel, died.set)
    try:
        await died.wait()
    finally:
        for process in processes:
            loop.remove_reader(process.sentinel)
    _log.error("an engine process has ended")
    os._exit(EXIT_ENGINE_DIED)


async def _serve_http(server: uvicorn.Server, listener: socket.socket) -> None:
    # uvicorn would take the signals for itself, and raise them again at its end.
    server.capture_signals = contextlib.nullcontext
    await server.serve(sockets=[listener])


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def _parse(argv: list[str]) -> Namespace:
    arguments: Namespace = make_arg_parser(FlexibleArgumentParser()).parse_args(argv)
    validate_parsed_serve_args(arguments)
    return arguments


def _describe(
    settings: WorkerSettings, engine: AsyncLLM, adapters: tuple[str, ...], address: str
) -> Worker:
    config: VllmConfig = engine.vllm_config
    cache = config.cache_config
    publisher = engine.get_kv_event_sources().get(0)  # of the only data parallel rank
    endpoints = (publisher.endpoint, publisher.replay_endpoint) if publisher else (None, None)
    kv_events, kv_events_replay = (reachable(endpoint, settings.host) for endpoint in endpoints)
    return Worker(
        worker_id=settings.worker_id,
        incarnation=settings.incarnation,
        service=settings.service,
        role=settings.role,
        revision=settings.revision,
        address=address,
        model=settings.served_name,
        engine=Engine(
            version=vllm_version,
            compatibility=compatibility(config, vllm_version),
            tensor_parallel=settings.tensor_parallel,
        ),
        kv_capacity_tokens=(cache.num_gpu_blocks or 0) * cache.block_size,
        kv_block_tokens=cache.block_size,
        max_model_tokens=config.model_config.max_model_len,
        kv_events=kv_events,
        kv_events_replay=kv_events_replay,
        kv_transfer=service_address(config.kv_transfer_config.kv_connector_extra_config),
        kv_side_channel=side_channel_address(
            config.kv_transfer_config.kv_connector_extra_config,
            config.parallel_config,
            caches_prefixes=cache.enable_prefix_caching,
        ),
        adapters=adapters,
        topology=Topology(node=settings.node, zone=settings.zone),
        state=WorkerState.STANDBY if settings.standby else WorkerState.READY,
    )
