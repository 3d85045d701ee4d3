"""What the Pulumi program and the inference service agree on.

Both sides import this module and neither imports the other, so it uses the
standard library only. A name changed here changes in the rendered container and
in the service's settings at once.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HTTP_PORT = 8080
"""Container port of the HTTP protocols (`/predict`, V1, V2), `/health` and `/metrics`."""

GRPC_PORT = 8081
"""Container port of the V2 gRPC protocol."""


STREAM_MODULE = "services.inference.stream"
"""What a stream worker runs."""

BATCH_MODULE = "services.inference.batch"
"""What a batch job runs."""

LAUNCH_MODULE = "services.inference.launch"
"""What a schedule starts for a batch job on Ray."""

RAY_DASHBOARD_PORT, RAY_AGENT_PORT = 8265, 52365
"""Ports of Ray's own: where the head of a cluster takes in jobs, and where each of its pods tells how it fares."""

FINAL_EXIT_CODES = (1, 2, 3, 5)
"""Exit codes of a batch job that another try would meet again: a model that cannot be loaded, a wrong setting, an input
that is refused, too many rows that cannot be scored."""

TOPICS_MODULE = "services.inference.topics"
"""What declares a stack's topics and the rights to them."""

STORAGE_MODULE = "services.inference.storage"
"""What KServe runs as its storage initializer."""

MODEL_MOUNT = "/mnt/models"
"""Where KServe mounts what its storage initializer brought; its name for it cannot be changed."""


class Env(StrEnum):
    """Environment variables of our containers, read by `services.inference.settings` and, for a batch job
    or a stream worker, `batch_settings` and `stream_settings`.
    """

    MODEL_NAME = "SLIPWAY_MODEL_NAME"
    """Name under which the model is served; the `<model>` of the V1 and V2 paths."""
    MODEL_URI = "SLIPWAY_MODEL_URI"
    """Where the artifact is: `models:/name/version`, `s3://bucket/prefix` or a directory."""
    MODEL_DIGEST = "SLIPWAY_MODEL_DIGEST"
    """`artifact_digest` of the artifact; a different artifact is refused before it is deserialised."""
    SHADOW_URI = "SLIPWAY_SHADOW_URI"
    """A second model that sees a copy of the traffic and is compared, never answered from; as `SLIPWAY_MODEL_URI`."""
    SHADOW_DIGEST = "SLIPWAY_SHADOW_DIGEST"
    """`artifact_digest` of the shadow's artifact."""
    COMPARE_URL = "SLIPWAY_COMPARE_URL"
    """Address of a release that is asked the same as this one, for a process that sees mirrored traffic: answers are
    compared, and its own are the shadow's."""
    COMPARE_SHARE = "SLIPWAY_COMPARE_SHARE"
    """Share of the requests for which it is asked, from 0 to 1."""
    MODEL_VERSION = "SLIPWAY_MODEL_VERSION"
    """Version reported in `model_version`; for `models:/` the registry's version."""
    MODELS_FILE = "SLIPWAY_MODELS_FILE"
    """YAML file that lists the models of a process that serves several, instead of the variables above."""
    MODEL_MEMORY_BYTES = "SLIPWAY_MODEL_MEMORY_BYTES"
    """Memory that all models together may take, in bytes; beyond it the one used least recently is evicted."""
    REFRESH_SECONDS = "SLIPWAY_REFRESH_SECONDS"
    """How often `models:/name@alias` is resolved again; SIGHUP does it at once."""
    REPOSITORY_TOKEN = "SLIPWAY_REPOSITORY_TOKEN"  # noqa: S105  # its name, not it
    """Enables V2's repository extension for callers with `Authorization: Bearer` and this token."""
    RELEASE = "SLIPWAY_RELEASE"
    """Release that this container serves; a label of every metric."""
    CACHE_DIR = "SLIPWAY_CACHE_DIR"
    """Writable directory for downloaded artifacts; the root file system is read-only."""
    LOG_LEVEL = "SLIPWAY_LOG_LEVEL"
    """`debug`, `info`, `warning` or `error`."""
    ACCESS_LOG = "SLIPWAY_ACCESS_LOG"
    """Which requests are logged: `errors` (status 400 and above) or `all`."""
    TORCH_THREADS = "SLIPWAY_TORCH_THREADS"
    """Intra-op threads of torch; follows the container's CPU limit."""
    DEVICE = "SLIPWAY_DEVICE"
    """Where torch runs models: `cpu`, `cuda`, `cuda:N`, or `auto`, a GPU where there is one."""
    PRECISION = "SLIPWAY_PRECISION"
    """`float32`, or `bfloat16` for torch's autocast."""
    TORCH_COMPILE = "SLIPWAY_TORCH_COMPILE"
    """Mode of `torch.compile`: `off`, `default`, `reduce-overhead` (CUDA graphs) or `max-autotune`; of Python modules,
    that is MLflow's pytorch flavour, with padded batches only."""
    HTTP_HOST = "SLIPWAY_HTTP_HOST"
    """Address to listen on, for HTTP and gRPC; every interface by default."""
    HTTP_PORT = "SLIPWAY_HTTP_PORT"
    """Port to listen on instead of `HTTP_PORT`; 0 lets the system choose."""
    GRPC_PORT = "SLIPWAY_GRPC_PORT"
    """Port for gRPC instead of `GRPC_PORT`, on the same address; 0 lets the system choose."""
    MAX_BATCH_ROWS = "SLIPWAY_MAX_BATCH_ROWS"
    """Rows that go to the model at once at most."""
    MAX_QUEUED_ROWS = "SLIPWAY_MAX_QUEUED_ROWS"
    """Rows that may wait for the model; beyond it requests are refused with Retry-After."""
    MAX_BATCH_BYTES = "SLIPWAY_MAX_BATCH_BYTES"
    """Bytes of inputs that go to the model at once at most."""
    BATCH_BUCKETS = "SLIPWAY_BATCH_BUCKETS"
    """Batch sizes in rows, ascending, as `1,8,64`: what is warmed up, and where batches are cut."""
    BATCH_PADDING = "SLIPWAY_BATCH_PADDING"
    """`true` fills every batch up to the next of the buckets, so that the model sees no other size."""
    PREDICTION_LOG = "SLIPWAY_PREDICTION_LOG"
    """Where a sample of predictions goes: `file:///path`, `s3://bucket/prefix` or `kafka://brokers/topic`."""
    PREDICTION_LOG_SHARE = "SLIPWAY_PREDICTION_LOG_SHARE"
    """Share of the requests in it, from 0 to 1; chosen by request id, so every release logs the same."""
    PREDICTION_LOG_REDACT = "SLIPWAY_PREDICTION_LOG_REDACT"
    """Inputs that are left out of it, by name, separated by commas."""
    KAFKA_PROPERTIES = "SLIPWAY_KAFKA_PROPERTIES"
    """File of librdkafka's properties, `key=value` lines, for what a broker asks of its clients; a mounted secret."""
    KAFKA_IAM_REGION = "SLIPWAY_KAFKA_IAM_REGION"
    """AWS region of an MSK cluster that clients sign in to by IAM, as who the pod is: no file of properties then."""
    KAFKA_USERS = "SLIPWAY_KAFKA_USERS"
    """File of the users that Kafka itself keeps, with passwords and rights: what declares topics reads it."""
    STREAM_BROKERS = "SLIPWAY_STREAM_BROKERS"
    """Brokers that a stream worker starts from: `host:port`, separated by commas."""
    STREAM_INPUT = "SLIPWAY_STREAM_INPUT"
    """Topic with the messages to score: JSON objects of feature values."""
    STREAM_OUTPUT = "SLIPWAY_STREAM_OUTPUT"
    """Topic for what was predicted."""
    STREAM_DEAD_LETTER = "SLIPWAY_STREAM_DEAD_LETTER"
    """Topic for messages that cannot be scored, with the reason and the original bytes."""
    STREAM_GROUP = "SLIPWAY_STREAM_GROUP"
    """Consumer group that the workers of one stream share; prefix of their transactional ids."""
    STREAM_WORKER = "SLIPWAY_STREAM_WORKER"
    """Name of this worker, its own among those of the group: a worker that starts under a name ends the transaction
    that the last one of that name left open, and fences it. The host's name by default, which a pod keeps."""
    STREAM_GUARANTEE = "SLIPWAY_STREAM_GUARANTEE"
    """`exactly-once` (transactions), or `at-least-once`: cheaper, and messages may be answered twice after a crash."""
    STREAM_BATCH_ROWS = "SLIPWAY_STREAM_BATCH_ROWS"
    """Messages that are scored at once at most; fewer while they take long."""
    STREAM_BATCH_MS = "SLIPWAY_STREAM_BATCH_MS"
    """How long a batch waits for more messages, in milliseconds."""
    STREAM_COMMIT_MS = "SLIPWAY_STREAM_COMMIT_MS"
    """Time between two commits, in milliseconds: how long readers wait for answers, and how much is done again after a
    crash."""
    STREAM_MAX_MESSAGE_BYTES = "SLIPWAY_STREAM_MAX_MESSAGE_BYTES"
    """Size of an output message at most, in bytes, as its topic allows; a larger one goes to the dead letters."""
    MAX_BODY_BYTES = "SLIPWAY_MAX_BODY_BYTES"
    """Size of one request's body at most, in bytes."""
    DRAIN_SECONDS = "SLIPWAY_DRAIN_SECONDS"
    """Seconds that accepted requests get to finish after SIGTERM; less than the pod's grace period."""
    TERMINATION_LOG = "SLIPWAY_TERMINATION_LOG"
    """File for the one line that says why the process could not start; Kubernetes shows it as the pod's reason."""
    BATCH_INPUT = "SLIPWAY_BATCH_INPUT"
    """Parquet that a batch job scores: a directory, a file or a glob, on S3 or disk; `{date}` is the run's day."""
    BATCH_OUTPUT = "SLIPWAY_BATCH_OUTPUT"
    """Where its table appears: a directory or `s3://bucket/prefix`; `{date}` likewise."""
    BATCH_PASSTHROUGH = "SLIPWAY_BATCH_PASSTHROUGH"
    """Input columns that the output has too, separated by commas: all by default, none for `-`."""
    BATCH_QUARANTINE_SHARE = "SLIPWAY_BATCH_QUARANTINE_SHARE"
    """Share of the rows that may go to the quarantine, from 0 to 1; with more the job fails and commits nothing."""
    BATCH_PART_ROWS = "SLIPWAY_BATCH_PART_ROWS"
    """Rows of a part of the output at least: what is done again after a crash at most."""
    BATCH_ENGINE = "SLIPWAY_BATCH_ENGINE"
    """What scores the parts: `local`, this process, or `ray`, the cluster that it is in."""
    BATCH_WORKERS = "SLIPWAY_BATCH_WORKERS"
    """Processes that hold the model where the engine is `ray`."""
    BATCH_WORKER_GPUS = "SLIPWAY_BATCH_WORKER_GPUS"
    """GPUs that each of them takes of the Ray cluster's; 0 by default."""
    BATCH_DAY = "SLIPWAY_BATCH_DAY"
    """What `{date}` stands for: `today`, `yesterday` or a date, 2026-11-26 say."""
    BATCH_TIMEZONE = "SLIPWAY_BATCH_TIMEZONE"
    """Time zone of that day, Europe/Berlin say; UTC by default."""
    BATCH_JOB_NAME = "SLIPWAY_BATCH_JOB_NAME"
    """Name of the Job, which of a CronJob's ends in the minute that it was due at: the day is that minute's."""
    BATCH_JOB_UID = "SLIPWAY_BATCH_JOB_UID"
    """Its UID: what the run's RayJob goes with."""
    BATCH_RAYJOB = "SLIPWAY_BATCH_RAYJOB"
    """Name of the suspended RayJob that a run on Ray is a copy of."""
    BATCH_TIMESTAMP = "SLIPWAY_BATCH_TIMESTAMP"
    """What `inference_timestamp` is instead of the job's start, for a run that has to be repeated byte for byte."""
    PREFECT_API_URL = "PREFECT_API_URL"
    """Prefect's own variable: the server that is told of the flow's runs; none is needed."""
    MLFLOW_TRACKING_URI = "MLFLOW_TRACKING_URI"
    """MLflow's own variable: the registry that `models:/` is resolved in."""
    MLFLOW_DIRECT_DOWNLOAD = "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"
    """MLflow's own variable: `false` downloads through its server, so that a model's pod needs no way to S3."""
    OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
    """OpenTelemetry's own variable: where traces go; none are made without it. Its SDK reads the others of its kind."""
    S3_ENDPOINT_URL = "AWS_ENDPOINT_URL_S3"
    """boto3's own variable: the S3 endpoint where it is not AWS."""


class Route(StrEnum):
    """HTTP paths that probes, scrapers and routes rely on."""

    PREDICT = "/predict"
    INVOCATIONS = "/invocations"
    HEALTH = "/health"
    LIVE = "/v2/health/live"
    READY = "/v2/health/ready"
    METRICS = "/metrics"


class Metric(StrEnum):
    """Prometheus metrics of the service; every one carries the labels `model` and `release`."""

    REQUESTS = "slipway_requests_total"
    """Counter by `protocol` and `code`: requests answered."""
    LATENCY = "slipway_request_duration_seconds"
    """Histogram by `protocol`: from the request's arrival to its answer, in seconds."""
    IN_FLIGHT = "slipway_requests_in_flight"
    """Gauge: requests accepted and not yet answered."""
    REQUEST_RATE = "slipway_requests_per_second"
    """Gauge: predictions answered per second over the last ten whole seconds, to scale by."""
    PREDICTED_ROWS = "slipway_predicted_rows_total"
    """Counter: rows predicted."""
    BATCH_ROWS = "slipway_batch_rows"
    """Histogram: rows that went to the model at once."""
    BATCH_SECONDS = "slipway_batch_duration_seconds"
    """Histogram: time of the model for a batch, in seconds."""
    QUEUE_WAIT = "slipway_queue_wait_seconds"
    """Histogram, one value per batch: wait of its oldest request before the model began, in seconds."""
    SHED = "slipway_shed_total"
    """Counter by `reason` (`overloaded`, `deadline_exceeded`, `shutting_down`): requests refused or given up."""
    PREDICTIONS = "slipway_predictions_total"
    """Counter by `class`: rows predicted by a classifier; beyond 64 classes the rest is `other`."""
    SCORES = "slipway_score"
    """Histogram: the probability that a classifier answered, per row."""
    SHADOW_ROWS = "slipway_shadow_rows_total"
    """Counter by `shadow` and `result` (match, mismatch, dropped, failed, incompatible or absent): copied rows."""
    SHADOW_DIFFERENCE = "slipway_shadow_difference"
    """Histogram by `shadow`: largest absolute difference of a row's outputs between the live model and its shadow."""
    SHADOW_SECONDS = "slipway_shadow_duration_seconds"
    """Histogram by `shadow`: time of the shadow for a request, in seconds."""
    GPU_MEMORY = "slipway_gpu_memory_bytes"
    """Gauge by `device`, without `model`: GPU memory of this process; absent where no GPU is used."""
    MODEL_LOAD = "slipway_model_load_seconds"
    """Gauge by `version`: time that a model took to fetch, verify, load and warm up, in seconds."""
    MODEL_MEMORY = "slipway_model_memory_bytes"
    """Gauge by `version`: memory that a loaded model takes, measured when it was loaded; 0 once it is evicted."""
    LOAD_FAILURES = "slipway_model_load_failures_total"
    """Counter: loads of a model that failed."""
    LOGGED_ROWS = "slipway_prediction_log_rows_total"
    """Counter by `result`: rows chosen for the prediction log: `written`, `dropped`, `oversized` or `failed`."""
    EVICTIONS = "slipway_model_evictions_total"
    """Counter: times that a model was taken out of memory to make room."""
    STREAM_MESSAGES = "slipway_stream_messages_total"
    """Counter by `result` (`predicted`, `dead`): messages of committed transactions."""
    STREAM_DEAD_LETTERS = "slipway_stream_dead_letters_total"
    """Counter by `error`, the class of the dead letter: committed dead letters."""
    STREAM_COMMITS = "slipway_stream_commits_total"
    """Counter by `result` (`committed`, `aborted`): transactions, or commits of offsets with at-least-once."""
    STREAM_COMMIT_SECONDS = "slipway_stream_commit_duration_seconds"
    """Histogram: time of a commit, the flush of its messages included, in seconds."""
    STREAM_DELAY = "slipway_stream_delay_seconds"
    """Histogram, one value per commit: age of its oldest message when it was committed, by the message's timestamp."""
    STREAM_LAG = "slipway_stream_lag_messages"
    """Gauge by `partition`: messages of the worker's partitions that no commit has covered yet."""


LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets of `Metric.LATENCY`, in seconds. 50 ms, the usual objective, is one, so that its share is exact."""

SERVING_METRICS = (
    Metric.REQUESTS,
    Metric.LATENCY,
    Metric.IN_FLIGHT,
    Metric.REQUEST_RATE,
    Metric.PREDICTED_ROWS,
    Metric.BATCH_ROWS,
    Metric.BATCH_SECONDS,
    Metric.QUEUE_WAIT,
    Metric.MODEL_LOAD,
    Metric.MODEL_MEMORY,
)
"""Metrics that every model has once it has answered; the others come with what they count."""


class DeadLetter(StrEnum):
    """Headers of a dead letter; its key and value are the message's own, the headers that it came with stay too."""

    TOPIC = "slipway.source.topic"
    PARTITION = "slipway.source.partition"
    OFFSET = "slipway.source.offset"
    ERROR = "slipway.error.class"
    """Class of the error: `MalformedBody`, `MissingFeature`, `InvalidValue`, `PredictionFailed`, `Tombstone`,
    `OutputTooLarge` …"""
    MESSAGE = "slipway.error.message"
    MODEL_VERSION = "slipway.model.version"


VERSION_HEADER = "x-model-version"
"""Request header that selects a release by name; answers carry the release that served them."""

DIGEST_TAG = "slipway.artifact.digest"
"""Tag of an MLflow model version: the `artifact_digest` of its artifact."""

BUNDLE_DIGEST_TAG = "slipway.bundle.digest"
"""Tag of an MLflow model version: the `artifact_digest` of the bundle inside its artifact, which, unlike
the artifact's own, is the same whenever the same bundle is registered again."""


def artifact_digest(files: Iterable[tuple[str, str]]) -> str:
    r"""Digest of a whole artifact from its files.

    `files` are (path relative to the artifact's root with `/`, SHA-256 of the content in
    hex), in any order. The result is `sha256:` and 64 hex digits over the sorted
    `<sha256>  <path>` lines, the format of `sha256sum`, so that a person can check it:
    `find . -type f | sed 's|^\./||' | LC_ALL=C sort | xargs -d '\n' sha256sum | LC_ALL=C sort -k2 | sha256sum`.
    """
    listing = "".join(f"{sha}  {path}\n" for path, sha in sorted(files))
    return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()


def directory_digest(root: Path) -> str:
    """`artifact_digest` of a directory on disk; symbolic links are refused, they could point anywhere."""
    files = []
    for path in root.rglob("*"):
        if path.is_symlink():
            raise ValueError(f"{path}: a symbolic link → an artifact holds plain files only → replace it by the file")
        if path.is_file():
            with path.open("rb") as content:
                files.append((path.relative_to(root).as_posix(), hashlib.file_digest(content, "sha256").hexdigest()))
    return artifact_digest(files)
