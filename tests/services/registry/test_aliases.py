"""A model that is served by its alias follows it."""

import asyncio
import itertools
import signal

import httpx
from mlflow import MlflowClient

from services.contract import Env
from tests.services.scaling import body, feature_bundle
from tools.registry import Registration, register_bundle


def test_an_alias_that_moves_swaps_the_model_under_load_without_an_error_or_a_mixed_answer(
    serve, mlflow_server, tmp_path
):
    versions = {}
    for factor in (2, 3):
        made = feature_bundle(tmp_path / str(factor), factor)
        done = register_bundle(mlflow_server, Registration(name="swapped", bundle=made, metrics={}, parameters={}))
        versions[factor] = done.uri.rpartition("/")[2]
    registry = MlflowClient(mlflow_server)
    registry.set_registered_model_alias("swapped", "live", versions[2])
    running = serve(
        {
            Env.MODEL_NAME: "swapped",
            Env.MODEL_URI: "models:/swapped@live",
            Env.MLFLOW_TRACKING_URI: mlflow_server,
            Env.REFRESH_SECONDS: 3600,
        }
    ).ready()
    seen = []

    async def load(caller, over, turned):
        while not over.is_set():
            found = await caller.post("/v2/models/swapped/infer", json=body(1, 10))
            turned.set()
            seen.append(
                (found.status_code, found.json().get("model_version"), tuple(found.json()["outputs"][0]["data"]))
            )

    async def scenario():
        over, turned = asyncio.Event(), asyncio.Event()
        async with httpx.AsyncClient(base_url=running.url, timeout=30) as caller:
            callers = [asyncio.create_task(load(caller, over, turned)) for _ in range(8)]
            for factor in (3, 2, 3):
                registry.set_registered_model_alias("swapped", "live", versions[factor])
                running.signal(signal.SIGHUP)
                wanted = versions[factor]
                async with asyncio.timeout(60):
                    while not seen or seen[-1][1] != wanted:
                        turned.clear()
                        await turned.wait()
            over.set()
            await asyncio.gather(*callers)

    asyncio.run(scenario())
    assert {(status, version, data) for status, version, data in seen} == {
        (200, versions[2], (22,)),
        (200, versions[3], (33,)),
    }
    assert sum(a[1] != b[1] for a, b in itertools.pairwise(seen)) >= 3, "it moved three times"
