# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204  # the framework has the types, in an environment of its own
"""Ray Serve with request batching: `python serve.py PORT SCRATCH`. One replica beside one proxy."""

import signal
import sys
import threading

import numpy as np
import ray
from ray import serve

from bench.peers.served import load, together


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
class Served:
    """The model behind Ray Serve."""

    def __init__(self):
        self.predictor = load()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.0)
    async def answer(self, blocks):
        """Answer all requests of a batch."""
        return together(self.predictor, blocks)

    async def __call__(self, request):
        """One request."""
        content = await request.json()
        output = await self.answer(np.asarray(content["inputs"], dtype=np.float32))
        return {"outputs": output.tolist()}


if __name__ == "__main__":
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=128 * 1024 * 1024,
        _temp_dir=sys.argv[2],
    )
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
        logging_config={"enable_access_log": False},
    )
    serve.run(Served.bind(), name="bench", route_prefix="/predict")
    stop.wait()
    serve.shutdown()
    ray.shutdown()
