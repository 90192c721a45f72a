"""What produces the figures in docs/performance.md. Each benchmark is one command.

Run from the repository root, in the environment that ``scripts/install dev`` makes::

    .venv/bin/python -m benchmarks.router_overhead --json router_overhead.json
    .venv/bin/python -m benchmarks.overload --json overload.json
    .venv/bin/python -m benchmarks.soak --json soak.json

``--quick`` makes each short enough for a look, and too short for a figure to publish. A goal that
is missed ends the command with exit code 1. Those of the router stand on the same parts: mock
engines that cost little (``mock_engine``), a load generator in a process of its own (``load``,
``load_generator``), the routers to compare (``systems``), and what is measured of a process from
outside (``processes``). Nothing is measured by the thing that is measured.
"""
