"""What the site gets beside the model it starts with: an add-on, a broker, and a model of each other kind."""

from __future__ import annotations

from typing import Any

ACCELERATOR, GPUS = "nvidia-l4", 2
"""What the node says it has, for releases that ask for it."""

SMALL = {"cpu": "25m", "cpuLimit": "1"}
RELEASE = {"model": "models:/breast-cancer/1", "resources": SMALL}
ON_GPU = {**RELEASE, "resources": {**SMALL, "gpu": 1, "accelerator": ACCELERATOR}}

KSERVE_MODEL = "tumour"
"""Served by KServe, beside the model that is not."""

BATCH_MODEL, RAY_MODEL = "nightly", "nightly-ray"
"""The same table, scored by one pod and by a Ray cluster."""

STREAM_MODEL = "breast-cancer-stream"


def add_everything(config: dict[str, Any], slow: str) -> None:
    """Edit the stack's configuration; `slow` is the version of a model that takes its time."""
    config.pop("slipway:checklist", None)
    config["slipway:addons"] = {name: {"enabled": True} for name in ("kserve", "keda", "kuberay")}
    config["slipway:platform"] |= {"gpus": {ACCELERATOR: GPUS}, "kafka": {"enabled": True, "volume": "1Gi"}}
    config["slipway:topics"] = {
        "cards": {"partitions": 2},
        "card-scores": {"partitions": 2},
        "cards-dead": {"partitions": 1},
    }
    models = config["slipway:models"]
    model = models["breast-cancer"]
    # Candidates that were there to fail are not asked for the checklist's answers.
    model |= {"releases": {"v1": model["releases"]["v1"], "gpu": ON_GPU}, "traffic": {"v1": 100}}
    models[KSERVE_MODEL] = {
        "kind": "realtime",
        "runtime": "kserve",
        "releases": {"v1": RELEASE, "v2": RELEASE},
        "traffic": {"v1": 100},
    }
    models[BATCH_MODEL] = {
        "kind": "batch",
        "model": "models:/breast-cancer/1",
        "input": "features/patients",
        "output": "predictions/patients",
        "schedule": "0 2 1 1 *",
        "passthrough": ["id"],
        "quarantineShare": 0.1,
        "resources": {"cpu": "100m", "memory": "1500Mi"},
    }
    models[RAY_MODEL] = {
        **models[BATCH_MODEL],
        "output": f"predictions/{RAY_MODEL}",
        "engine": "ray",
        "ray": {"workers": 1, "head": {"cpu": "100m", "memory": "3Gi"}},
        "resources": {"cpu": "100m", "memory": "2Gi"},
    }
    models[STREAM_MODEL] = {
        "kind": "stream",
        # Slow enough for messages to wait: workers come with them and go after them.
        "model": f"models:/breast-cancer/{slow}",
        "batchRows": 4,
        "scaling": {"min": 0, "max": 2, "lag": 10},
        "resources": SMALL,
        "input": "cards",
        "output": "card-scores",
        "deadLetter": "cards-dead",
    }


def take_away(config: dict[str, Any]) -> None:
    """Edit it so that all of this goes again."""
    platform, models = config["slipway:platform"], config["slipway:models"]
    del config["slipway:addons"], config["slipway:topics"], platform["gpus"], platform["kafka"]
    del models[KSERVE_MODEL], models[BATCH_MODEL], models[RAY_MODEL], models[STREAM_MODEL]
    del models["breast-cancer"]["releases"]["gpu"]
