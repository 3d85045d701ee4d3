from __future__ import annotations

import pulumi
import pytest

from infra.config.workload import PROGRAMS_ENV
from infra.deploy import deploy
from infra.serving.realtime import release as manifests
from services.contract import GRPC_PORT, HTTP_PORT, Env, Route
from services.inference.settings import Settings
from tests.infra.recording import DIGEST, RECORDS, realtime, record, resolve_without_registry, resolved, stack

PREVIEW = pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])


def deployed(model=None, *, preview=False, name="fraud"):
    config = stack(models={name: model or realtime()}, addons={"kserve": {"enabled": True}})
    return record(lambda: deploy(config, resolve_without_registry), preview=preview)


def container_of(recorded, workload="fraud-v1"):
    return recorded.one("Deployment", workload)["spec"]["template"]["spec"]["containers"][0]


def two_releases(**keys):
    return realtime(
        releases={"v1": {"model": "models:/fraud/1"}, "v2": {"model": "models:/fraud@champion"}},
        traffic={"v1": 90, "v2": 10},
        **keys,
    )


@PREVIEW
def test_a_release_is_a_workload_of_its_own(preview):
    recorded = deployed(two_releases(), preview=preview)
    for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"):
        assert {"fraud-v1", "fraud-v2"} <= set(recorded.of(kind)), f"each release has a {kind}"


@PREVIEW
def test_the_stack_exports_the_address_of_each_model(preview):
    endpoints = deployed(preview=preview).outputs["endpoints"]
    assert endpoints == {"fraud": "http://127.0.0.1:8080/models/fraud"}, "known even before anything exists"


def test_the_service_accepts_the_environment_that_is_rendered_for_it(monkeypatch):
    for variable in Env:
        monkeypatch.delenv(variable, raising=False)
    for variable in container_of(deployed(two_releases()), "fraud-v2")["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    settings = Settings()
    assert settings.model_name == "fraud"
    assert settings.model_uri == "models:/fraud/7", "the alias is pinned to the version it pointed at in the preview"
    assert settings.model_version == "7"
    assert settings.model_digest == DIGEST
    assert settings.release == "v2"
    assert settings.torch_threads == 2
    assert settings.mlflow_tracking_uri == "http://mlflow.slipway-platform.svc.cluster.local:5000"
    assert settings.http_port == HTTP_PORT, "probes and the Service expect it there"
    assert settings.grpc_port == GRPC_PORT, "the Service expects it there"
    assert settings.drain_seconds < manifests.DRAIN_SECONDS, "accepted requests must end before the pod is killed"


def test_what_the_service_writes_to_is_a_writable_volume():
    container = container_of(deployed())
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    assert environment[Env.CACHE_DIR] in mounts, "the root file system is read-only"
    assert environment["HOME"] in mounts


def test_every_variable_that_the_program_sets_is_refused_in_a_stack():
    recorded = deployed()
    ours = {variable["name"] for variable in container_of(recorded)["env"]} & set(Env)
    assert ours <= PROGRAMS_ENV, f"a stack that sets {ours - PROGRAMS_ENV} would silently win over the program"


def test_a_releases_own_variables_and_image_reach_its_container():
    image = "registry.example/own@sha256:" + "e" * 64
    own = {"model": "models:/fraud/1", "image": image, "env": {"SLIPWAY_MAX_BATCH_ROWS": "64"}}
    container = container_of(deployed(realtime(releases={"v1": own})))
    assert container["image"] == image
    assert {"name": "SLIPWAY_MAX_BATCH_ROWS", "value": "64"} in container["env"]
    assert container_of(deployed())["image"] == RECORDS.images["inference"]


def test_probes_ask_the_routes_of_the_contract_at_the_port_of_the_contract():
    container = container_of(deployed())
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": HTTP_PORT, "grpc": GRPC_PORT}
    assert container["startupProbe"]["httpGet"] == {"path": Route.READY, "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": Route.READY, "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": Route.LIVE, "port": "http"}


def test_a_model_gets_the_time_to_load_that_its_stack_grants_and_then_fails_the_update():
    recorded = deployed(realtime(startupSeconds=300))
    probe = container_of(recorded)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 300
    deadline = recorded.one("Deployment", "fraud-v1")["spec"]["progressDeadlineSeconds"]
    assert deadline == 300 + manifests.PLACEMENT_SECONDS, "scheduling and the image's start are not the model's time"


def test_a_broken_model_fails_the_update_within_three_minutes_by_default():
    assert deployed().one("Deployment", "fraud-v1")["spec"]["progressDeadlineSeconds"] <= 180


def test_requests_without_header_go_by_weight_and_a_header_goes_to_its_release():
    routes = deployed(two_releases()).one("VirtualService", "fraud-route")["spec"]["http"]
    header = {
        route["match"][0]["headers"]["x-model-version"]["exact"]: route["route"][0]["destination"]["host"].split(".")[0]
        for route in routes[:2]
    }
    assert header == {"v1": "fraud-v1", "v2": "fraud-v2"}
    weights = {entry["destination"]["host"].split(".")[0]: entry["weight"] for entry in routes[-1]["route"]}
    assert weights == {"fraud-v1": 90, "fraud-v2": 10}
    assert "headers" not in routes[-1]["match"][0]


def test_a_header_that_names_no_release_is_answered_with_404_and_never_by_another_release():
    routes = deployed(two_releases()).one("VirtualService", "fraud-route")["spec"]["http"]
    assert routes[2]["directResponse"]["status"] == 404
    assert routes[2]["match"][0]["headers"] == {"x-model-version": {"regex": ".+"}}
    assert "route" not in routes[2]


def test_a_release_without_weight_gets_no_share_and_stays_reachable_by_header():
    model = two_releases() | {"traffic": {"v1": 100, "v2": 0}}
    routes = deployed(model).one("VirtualService", "fraud-route")["spec"]["http"]
    assert [entry["destination"]["host"].split(".")[0] for entry in routes[-1]["route"]] == ["fraud-v1"]
    assert len(routes) == 4, "two headers, the unknown one, and the weights"


def test_paths_of_a_model_do_not_match_a_model_whose_name_begins_alike():
    routes = deployed().one("VirtualService", "fraud-route")["spec"]["http"]
    assert {route["match"][0]["uri"]["prefix"] for route in routes} == {"/models/fraud/"}, (
        "/models/fraud would also take the requests of /models/fraud-detector"
    )


def test_every_destination_of_the_route_is_a_service_that_is_declared():
    recorded = deployed(two_releases())
    for route in recorded.one("VirtualService", "fraud-route")["spec"]["http"]:
        for entry in route.get("route", []):
            service, namespace = entry["destination"]["host"].split(".")[:2]
            declared = recorded.one("Service", service)
            assert declared["metadata"]["namespace"] == namespace
            assert entry["destination"]["port"]["number"] in [port["port"] for port in declared["spec"]["ports"]]


def test_services_select_the_pods_of_their_own_release_only():
    recorded = deployed(two_releases())
    for name in ("fraud-v1", "fraud-v2"):
        selector = recorded.one("Service", name)["spec"]["selector"]
        labels = {
            other: recorded.one("Deployment", other)["spec"]["template"]["metadata"]["labels"]
            for other in ("fraud-v1", "fraud-v2")
        }
        matching = [other for other, found in labels.items() if selector.items() <= found.items()]
        assert matching == [name]


def test_the_service_tells_the_mesh_which_port_speaks_grpc():
    recorded = deployed()
    ports = {port["name"]: port for port in recorded.one("Service", "fraud-v1")["spec"]["ports"]}
    assert {name: port["appProtocol"] for name, port in ports.items()} == {"http": "http", "grpc": "grpc"}
    named = {port["name"] for port in container_of(recorded)["ports"]}
    assert {port["targetPort"] for port in ports.values()} <= named, "a target port is a name of the container's"


def test_the_disruption_budget_never_blocks_the_drain_of_a_node():
    spec = deployed().one("PodDisruptionBudget", "fraud-v1")["spec"]
    assert spec["maxUnavailable"] == 1
    assert "minAvailable" not in spec, "with one replica it would forbid every eviction"


def test_the_preview_shows_version_and_digest():
    metadata = deployed(two_releases()).one("Deployment", "fraud-v2")["metadata"]["annotations"]
    assert metadata["slipway.dev/model-reference"] == "models:/fraud@champion"
    assert metadata["slipway.dev/model-version"] == "7"
    assert metadata["slipway.dev/model-digest"] == DIGEST


def test_torch_gets_a_thread_for_each_whole_core_it_may_use():
    for limit, threads in (("500m", "1"), ("1", "1"), ("3500m", "3"), ("8", "8")):
        release = {"model": "models:/fraud/1", "resources": {"cpuLimit": limit}}
        environment = container_of(deployed(realtime(releases={"v1": release})))["env"]
        assert {"name": Env.TORCH_THREADS, "value": threads} in environment, f"{limit} cores"


def test_models_reach_the_registry_and_nothing_else():
    policy = deployed().one("NetworkPolicy", "fraud")["spec"]
    [egress] = policy["egress"]
    assert egress["ports"] == [{"protocol": "TCP", "port": 5000}]
    assert egress["to"][0]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "mlflow"}}
    [ingress] = policy["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": HTTP_PORT}, {"protocol": "TCP", "port": GRPC_PORT}]


def test_a_shadow_may_ask_the_models_other_pods_too():
    policy = deployed(two_releases() | {"traffic": {"v1": 100}, "shadow": "v2"}).one("NetworkPolicy", "fraud")["spec"]
    for way, side in (("ingress", "from"), ("egress", "to")):
        (peer,) = policy[way][-1][side]
        assert peer["podSelector"]["matchLabels"]["slipway.dev/model"] == "fraud"
        assert policy[way][-1]["ports"] == [{"protocol": "TCP", "port": HTTP_PORT}]


def test_a_failing_registration_fails_the_program():
    def program():
        pulumi.ComponentResource("slipway:test:Broken", "broken", {"value": pulumi.Output.from_input(1).apply(_raise)})

    with pytest.raises(ZeroDivisionError):
        record(program, preview=False)


def _raise(value):
    raise ZeroDivisionError(value)


def test_the_pinned_form_of_an_alias_names_its_version():
    assert resolved("models:/fraud@champion").uri == "models:/fraud/7"


def traffic_route(recorded):
    return recorded.one("VirtualService", "fraud-route")["spec"]["http"][-1]


def hosts(route):
    return [(entry["destination"]["host"].split(".")[0], entry["weight"]) for entry in route["route"]]


def test_a_shadow_gets_copies_of_the_traffic_and_asks_the_live_release_to_compare():
    recorded = deployed(two_releases() | {"traffic": {"v1": 100}, "shadow": "v2"})
    route = traffic_route(recorded)
    assert hosts(route) == [("fraud-v1", 100)]
    assert route["mirror"]["host"].startswith("fraud-v2.")
    assert route["mirrorPercentage"] == {"value": 100}
    by_header = recorded.one("VirtualService", "fraud-route")["spec"]["http"][:2]
    assert not any("mirror" in each for each in by_header), "who asks for a release asks for that one alone"
    environment = {each["name"]: each["value"] for each in container_of(recorded, "fraud-v2")["env"]}
    assert environment[Env.COMPARE_URL] == "http://fraud-v1.slipway-models.svc.cluster.local:8080"
    assert environment[Env.COMPARE_SHARE] == "0.1"
    assert Env.COMPARE_URL not in {each["name"] for each in container_of(recorded, "fraud-v1")["env"]}


def test_how_much_the_shadow_sees_and_compares_is_settable():
    model = two_releases() | {"traffic": {"v1": 100}, "shadow": "v2", "mirror": {"percent": 25, "comparePercent": 100}}
    recorded = deployed(model)
    assert traffic_route(recorded)["mirrorPercentage"] == {"value": 25}
    environment = {each["name"]: each["value"] for each in container_of(recorded, "fraud-v2")["env"]}
    assert environment[Env.COMPARE_SHARE] == "1"


@PREVIEW
def test_a_sticky_model_chooses_by_the_hash_of_the_callers_header(preview):
    recorded = deployed(two_releases(sticky={"header": "x-user-id"}), preview=preview)
    assert hosts(traffic_route(recorded)) == [("fraud-v1", 90), ("fraud-v2", 10)]
    (patch,) = recorded.one("EnvoyFilter", "fraud-sticky")["spec"]["configPatches"]
    matched = patch["match"]["routeConfiguration"]["vhost"]["route"]["name"]
    assert matched == traffic_route(recorded)["name"], "and no other model's"
    assert patch["patch"]["value"]["route"] == {
        "hash_policy": [{"header": {"header_name": "x-user-id"}}],
        "weighted_clusters": {"use_hash_policy": True},
    }


def test_a_sticky_route_is_a_choice_also_where_one_release_has_it_all():
    recorded = deployed(realtime(sticky={"header": "x-user-id"}))
    assert hosts(traffic_route(recorded)) == [("fraud-v1", 99), ("fraud-v1", 1)]


def test_replicas_follow_the_load_at_the_pace_of_the_stack():
    scaling = {"min": 2, "max": 20, "cpu": 70, "requestsPerSecond": 99.5, "down": {"percent": 25}}
    recorded = deployed(realtime(scaling=scaling))
    spec = recorded.one("HorizontalPodAutoscaler", "fraud-v1")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud-v1"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 20)
    cpu, requests = spec["metrics"]
    assert cpu["containerResource"] == {
        "name": "cpu",
        "container": recorded.one("Deployment", "fraud-v1")["spec"]["template"]["spec"]["containers"][0]["name"],
        "target": {"type": "Utilization", "averageUtilization": 70},
    }
    assert requests["pods"]["metric"] == {"name": "requests_per_second"}
    assert requests["pods"]["target"] == {"type": "AverageValue", "averageValue": "99500m"}
    up, down = spec["behavior"]["scaleUp"], spec["behavior"]["scaleDown"]
    assert up["policies"][0] == {"type": "Percent", "value": 100, "periodSeconds": 15}, "doubled in 15 s"
    assert (up["stabilizationWindowSeconds"], down["stabilizationWindowSeconds"]) == (0, 300)
    assert down["policies"][0] == {"type": "Percent", "value": 25, "periodSeconds": 60}
    assert recorded.one("Deployment", "fraud-v1")["spec"]["replicas"] == 2, "until the autoscaler has looked"


def test_a_fixed_number_of_replicas_has_no_autoscaler():
    assert not deployed(realtime(scaling={"min": 3})).of("HorizontalPodAutoscaler")


@PREVIEW
def test_under_kserve_a_release_is_an_inference_service_behind_the_same_routes(preview):
    plain, recorded = (
        deployed(two_releases(), preview=preview),
        deployed(two_releases(runtime="kserve"), preview=preview),
    )
    for kind, name in (("VirtualService", "fraud-route"), ("Service", "fraud-v2")):
        ours, theirs = recorded.one(kind, name)["spec"], plain.one(kind, name)["spec"]
        assert {**ours, "gateways": None} == {**theirs, "gateways": None}, "gateways are Outputs, unknown in a preview"
    assert "fraud-v2" not in recorded.of("Deployment"), "KServe makes it"
    found = recorded.one("InferenceService", "fraud-v2")
    annotations = found["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "Standard"
    assert annotations["pulumi.com/waitFor"] == "condition=Ready", "Ready before any weight points at it"
    predictor = found["spec"]["predictor"]
    pod = plain.one("Deployment", "fraud-v2")["spec"]["template"]
    assert predictor["labels"] == pod["metadata"]["labels"], "our Service selects by them"
    assert predictor["securityContext"] == pod["spec"]["securityContext"]
    container = pod["spec"]["containers"][0]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert predictor["model"]["storageUri"] == environment[Env.MODEL_URI], "KServe fetches it"
    served = {each["name"]: each.get("value") for each in predictor["model"]["env"]}
    assert served.pop(Env.MODEL_URI) == "/mnt/models", "and the service takes what KServe brought"
    assert list(served) == [name for name in environment if name != Env.MODEL_URI]
    assert served[Env.MODEL_DIGEST] == environment[Env.MODEL_DIGEST]
    assert predictor["model"]["image"] == container["image"]
    assert predictor["model"]["resources"] == container["resources"]
    runtime = recorded.one("ServingRuntime", "fraud")["spec"]["containers"][0]
    for key in ("readinessProbe", "startupProbe", "securityContext", "volumeMounts", "lifecycle"):
        assert runtime[key] == container[key]
    assert "env" not in runtime, "a release's own settings are its own"


def test_under_kserve_our_autoscaler_scales_what_kserve_has_made():
    scaling = {"min": 1, "max": 4, "cpu": 70}
    recorded = deployed(realtime(runtime="kserve", scaling=scaling))
    found = recorded.one("InferenceService", "fraud-v1")
    assert found["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
    spec = recorded.one("HorizontalPodAutoscaler", "fraud-v1")["spec"]
    assert spec["scaleTargetRef"]["name"] == "fraud-v1-predictor"
    assert spec["metrics"][0]["containerResource"]["container"] == "kserve-container"


def test_knative_scales_to_zero_by_itself():
    scaling = {"min": 0, "max": 4, "requestsPerSecond": 10}
    recorded = deployed(realtime(runtime="kserve", kserve={"mode": "knative"}, scaling=scaling))
    found = recorded.one("InferenceService", "fraud-v1")
    assert found["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    predictor = found["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["scaleMetric"], predictor["scaleTarget"]) == (0, "rps", 10)
    assert not recorded.of("HorizontalPodAutoscaler")


@pytest.mark.parametrize("runtime", ["deployment", "kserve"])
def test_a_release_with_gpus_goes_to_their_nodes_and_only_there(runtime):
    release = {"model": "models:/fraud/1", "resources": {"gpu": 2, "accelerator": "nvidia-l4"}}
    config = stack(
        models={"fraud": realtime(releases={"v1": release}, runtime=runtime)},
        platform={"kind": "local", "gpus": {"nvidia-l4": 4}},
        addons={"kserve": {"enabled": True}},
    )
    recorded = record(lambda: deploy(config, resolve_without_registry), preview=False)
    if runtime == "kserve":
        pod = recorded.one("InferenceService", "fraud-v1")["spec"]["predictor"]
        resources = pod["model"]["resources"]
    else:
        pod = recorded.one("Deployment", "fraud-v1")["spec"]["template"]["spec"]
        resources = pod["containers"][0]["resources"]
    assert pod["nodeSelector"] == {"slipway.dev/accelerator": "nvidia-l4"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "2"
