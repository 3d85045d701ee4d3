"""What to do when an alert fires, by its name: a summary, in Prometheus' templates, and the steps."""

from __future__ import annotations

RELEASE = "{{ $labels.model }} {{ $labels.release }}"
MODEL = "{{ $labels.model }}"
VALUE = "{{ $value | printf `%.3g` }}"

TEXTS = {
    "ErrorBudgetBurn": (
        f"{MODEL}: a share of {VALUE} of the requests fails, too much for its objective",
        "1. Dashboard `Slipway: releases`: is it one release? Then put the traffic back: set its weight to 0 in "
        "`traffic` and run `pulumi up`; the old release is warm.\n"
        "2. All releases alike: `kubectl -n slipway-models logs -l slipway.dev/model=<model> --tail=50`; the lines "
        "with status 500 name the request and the cause.\n"
        "3. 503 without a line in the logs: the pods are not ready or gone, see ReleaseNotReady.",
    ),
    "LatencyBudgetBurn": (
        f"{MODEL}: a share of {VALUE} of the predictions is slower than its objective",
        "1. Dashboard `Slipway: releases`, queue wait beside batch time. Long waits: too few replicas, raise "
        "`scaling.min` or `scaling.max`.\n"
        "2. Long batch times of one release: that model is slow; put its weight to 0.\n"
        "3. Both short and the gateway's latency long: the node is busy, `kubectl top nodes`.",
    ),
    "QueueWait": (
        f"{MODEL}: batches wait {VALUE} s for the model",
        "1. Raise `scaling.min` of the model, or `scaling.max` where it scales by itself.\n"
        "2. GPU models: larger batches cost little; raise SLIPWAY_MAX_BATCH_ROWS in `env` of the release.",
    ),
    "ModelMissing": (
        f"{MODEL}: no pod of it is there to be scraped",
        "1. `kubectl -n slipway-models get pods,events -l slipway.dev/model=<model>`.\n"
        "2. Pods Pending: the node lacks what they ask for; lower `resources` or add a node.\n"
        "3. No pods at all: `pulumi refresh` shows what was deleted, `pulumi up` brings it back.",
    ),
    "ScoreDrift": (
        f"{MODEL}: its scores of the last hour are {VALUE} away from those of the day before (0 alike, 1 disjoint)",
        "1. Did a release get traffic? Compare scores in the dashboard; put the weight back if it was not meant.\n"
        "2. Otherwise the inputs have changed: compare the prediction log of today with the training data, first by "
        "missing values and units.\n"
        "3. Train on newer data, evaluate, and roll the new version out.",
    ),
    "NoTraffic": (
        f"{MODEL}: no request for ten minutes, after some within the hour",
        "1. Ask it yourself: `slipway predict <model>`. An answer means that callers have stopped or cannot reach the "
        "gateway.\n"
        "2. 404: the route is gone, `kubectl -n slipway-models get virtualservice <model>`; `pulumi up` makes it.",
    ),
    "ReleaseNotReady": (
        f"{RELEASE}: the gateway knows no ready pod of it",
        "1. Does it have weight? Move that to another release now.\n"
        "2. `kubectl -n slipway-models describe pods -l slipway.dev/model=<model>,slipway.dev/release=<release>`: the "
        "container's last message says why it does not start.",
    ),
    "PodNotAnswering": (
        "{{ $labels.pod }} of " + RELEASE + " does not answer",
        "1. `kubectl -n slipway-models describe pod <pod>`: restarts, last message, events.\n"
        "2. OOMKilled: raise `resources.memory` of the release.",
    ),
    "Overloaded": (
        f"{RELEASE}: refuses {VALUE} requests a second for lack of room or time",
        "1. Raise `scaling.max` (or `scaling.min` where it does not scale by itself) and run `pulumi up`.\n"
        "2. Until then: callers get 429 with Retry-After; what must be answered goes first by its deadline.",
    ),
    "StreamStalled": (
        f"{MODEL}: {{{{ $value }}}} messages wait and none is answered",
        "1. `slipway stream lag <model>`: does it fall? Then a worker has just come back.\n"
        "2. `kubectl -n slipway-models logs -l slipway.dev/model=<model> --tail=50`: the last line of a worker that "
        "ended says why: broker, credentials, artifact.\n"
        "3. Workers run and say nothing: the broker, `kubectl -n slipway-platform get pods`.",
    ),
    "StreamBehind": (
        f"{MODEL}: at its pace it has caught up in {VALUE} s only",
        "1. Dashboard `Slipway: streams`: more messages than usual, or fewer answers? Fewer: compare batch times with "
        "those of the day before.\n"
        "2. Raise `scaling.max` where it scales by lag, or `scaling.min`; there are never more workers at work than "
        "the input has partitions.",
    ),
    "DeadLetters": (
        f"{MODEL}: a share of {VALUE} of the messages cannot be scored",
        "1. Dashboard `Slipway: streams`, dead letters by error: MissingFeature and InvalidValue are the producer's, "
        "PredictionFailed is the model's.\n"
        "2. Mended? `slipway stream replay <model>` sends them back, each once.",
    ),
    "StreamAborts": (
        f"{MODEL}: a share of {VALUE} of the transactions is given up and read again",
        "1. `kubectl -n slipway-models logs -l slipway.dev/model=<model> | grep 'given up'` names the cause.\n"
        "2. Rebalances: pods that come and go; `kubectl -n slipway-models get pods -l slipway.dev/model=<model>`.\n"
        "3. Time-outs: the broker is slow; look at its disk first.",
    ),
    "ShadowDisagreement": (
        f"{RELEASE}: a share of {VALUE} of the rows is answered differently by its shadow",
        "1. The logs of the release sample the rows that differ: `kubectl -n slipway-models logs … | grep shadow`.\n"
        "2. Meant, as the shadow is a better model? Then judge it by its evaluation.\n"
        "3. Not meant: same version of the transformer, same order of the features, same units?",
    ),
}
