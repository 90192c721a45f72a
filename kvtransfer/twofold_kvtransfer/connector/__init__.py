"""Our connector for vLLM, which loads :mod:`.facade` by its ``kv_connector_module_path``.

vLLM makes it twice: once beside the scheduler, where requests are matched with blocks elsewhere
(:mod:`.scheduler_side`), and once in each rank, where the blocks move (:mod:`.worker_side`). What
the first decides goes to the second as :class:`.orders.Orders`, with every step of the engine.
"""
