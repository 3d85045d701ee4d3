"""The process of a batch job: settings → model → flow → summary.

1. settings are read, `{date}` is filled in
2. the model is fetched, verified, loaded and warmed up
3. the flow runs; progress and logs go to standard error
4. standard output gets one JSON object: what was done

Where it fails the process ends with one line on standard error and in the termination log, nothing on standard output,
and an exit code that says whether another try may succeed (`adapters.batch.errors`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import resource
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from services.contract import Env
from services.inference.batch_settings import DATE, BatchSettings, prepare_prefect
from services.inference.core.catalog import ModelSpec
from services.inference.core.document import first_problem
from services.inference.core.errors import InferenceError
from services.inference.logs import configure_logs
from services.inference.runtimes.loader import ArtifactLoader
from services.inference.runtimes.torch_module import TorchOptions
from services.inference.settings import prepare_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from services.inference.adapters.batch.job import Plan
    from services.inference.adapters.batch.table import PartRecord
    from services.inference.core.pipeline import Pipeline

FAILED, WRONG_SETTING = 1, 2
STOPPED = 128 + signal.SIGTERM

SWITCH_SECONDS = 0.0005
"""How long a stage's thread waits for Python's lock before it asks for it: they hand over in each batch."""


class Stopped(BaseException):
    """The process was told to stop. Not an `Exception`: nothing that tries again may catch it."""


def main() -> int:
    """Run the job; the result is the process's exit code."""
    signal.signal(signal.SIGTERM, _stop)
    sys.setswitchinterval(SWITCH_SECONDS)
    started = time.monotonic()
    try:
        settings = BatchSettings()
    except ValidationError as error:
        return end(f"{first_problem(error)} → correct the variable", WRONG_SETTING)
    try:
        prepare_process(settings.cache_dir)
    except OSError as error:
        reason = f"cache {settings.cache_dir}: {error.strerror} → it is writable → mount a volume"
        return end(reason, WRONG_SETTING, settings.termination_log)
    prepare_prefect(settings.cache_dir, settings.prefect_api_url)
    configure_logs(settings.log_level, sys.stderr)
    try:
        summary = run(settings, datetime.now(UTC))
    except InferenceError as error:
        return end(str(error), getattr(error, "exit_code", FAILED), settings.termination_log)
    except (Stopped, KeyboardInterrupt):
        return end("told to stop → finished parts are kept → run it again", STOPPED, settings.termination_log)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**summary, "seconds": round(time.monotonic() - started, 3), "peakBytes": peak}))
    return 0


def run(settings: BatchSettings, now: datetime) -> dict[str, Any]:
    """Load the model, run the flow; the summary. Errors are `InferenceError`."""
    from services.inference.adapters.batch.flow import batch_inference  # noqa: PLC0415  # after `prepare_prefect`
    from services.inference.adapters.batch.job import BatchJob, Spec  # noqa: PLC0415
    from services.inference.adapters.batch.orchestration import api  # noqa: PLC0415
    from services.inference.adapters.batch.progress import Progress  # noqa: PLC0415

    day = settings.date(now).isoformat()
    spec = Spec(
        input=settings.input.replace(DATE, day),
        output=settings.output.replace(DATE, day),
        passthrough=settings.passthrough,
        quarantine_share=settings.quarantine_share,
        part_rows=settings.part_rows,
        timestamp=settings.timestamp or settings.began(now),
        scratch=settings.cache_dir / "scratch",
        s3_endpoint_url=settings.s3_endpoint_url,
    )
    pipeline = load(settings)
    with Progress() as progress, api(settings.prefect_api_url):
        job = BatchJob(pipeline=pipeline, spec=spec, progress=progress)
        try:
            flow = batch_inference(job, on_ray(settings) if settings.engine == "ray" else None)
            manifest, made = flow(spec.input, spec.output, str(settings.model_uri))
        except InferenceError as error:
            if not worth_another_try(error):
                job.abandon()
            raise
    return {
        "output": spec.output,
        "made": made,
        **{key: manifest[key] for key in ("job", "model", "input", "rows", "refused")},
        "parts": len(manifest["parts"]),
        "rowsPerSecond": round(progress.rate) if made else None,
    }


def on_ray(settings: BatchSettings) -> Callable[[Plan], Iterator[PartRecord]]:
    """Scores on a Ray cluster. `BatchError` where Ray is not installed."""
    from services.inference.adapters.batch.errors import BatchError  # noqa: PLC0415
    from services.inference.adapters.batch.ray_engine import score_on_ray  # noqa: PLC0415

    if importlib.util.find_spec("ray") is None:
        raise BatchError(f"{Env.BATCH_ENGINE} is ray", "Ray is installed", "install slipway[ray], or use local")
    # By this module's own name: in the processes of Ray `__main__` is another.
    load_there = functools.partial(importlib.import_module(f"{__package__}.batch").load_in_worker, settings)
    return functools.partial(
        score_on_ray,
        load=load_there,
        workers=settings.workers,
        gpus=settings.worker_gpus,
        directory=settings.cache_dir / "ray",
    )


def load_in_worker(settings: BatchSettings) -> Pipeline:
    """The model in a process that Ray has started."""
    prepare_process(settings.cache_dir)
    return load(settings)


def worth_another_try(error: InferenceError) -> bool:
    """Whether what has been done so far is to be kept for a later run."""
    from services.inference.adapters.batch.errors import AccessDenied, EngineFailed, StoreUnavailable  # noqa: PLC0415

    return isinstance(error, (AccessDenied, EngineFailed, StoreUnavailable))


def load(settings: BatchSettings) -> Pipeline:
    """The model, ready to score. Errors are `LoadError`."""
    loader = ArtifactLoader(
        cache=settings.cache_dir,
        release=settings.release,
        limits=settings.batch_limits(),
        torch=TorchOptions(
            threads=settings.torch_threads,
            device=settings.device,
            precision=settings.precision,
            compile=settings.torch_compile,
        ),
        tracking_uri=settings.mlflow_tracking_uri,
        s3_endpoint_url=settings.s3_endpoint_url,
    )
    return loader.load(
        ModelSpec(
            name=str(settings.model_name),
            uri=str(settings.model_uri),
            digest=settings.model_digest,
            version=settings.model_version,
        )
    ).pipeline


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise Stopped


def end(reason: str, code: int, termination_log: Path = Path("/dev/termination-log")) -> int:
    """Say why the process ends, in one line; the result is its exit code."""
    line = f"slipway: {' '.join(reason.split())}"
    print(line, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):  # only a pod has the file, and it exists there already
        if os.access(termination_log, os.W_OK):
            termination_log.write_text(line + "\n")
    return code


if __name__ == "__main__":
    # Threads of a part that was interrupted end with the process.
    sys.exit(main())
