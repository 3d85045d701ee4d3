from __future__ import annotations

import json
from dataclasses import replace

import pytest

from infra.config.base import PATTERNS, ConfigModel
from infra.config.loader import read_records
from infra.config.models import traffic_problem
from infra.config.parse import BuildRecords, parse
from infra.config.schema import SCHEMA_FILE, rendered_schema, stack_schema
from infra.config.workload import PROGRAMS_ENV
from infra.errors import ConfigError
from tests.infra.recording import RECORDS, batch, realtime, stack

SHA = "sha256:" + "a" * 64


ISSUER = {
    "issuer": "https://login.example.com",
    "audiences": ["registry"],
    "subjects": ["*"],
    "jwksUri": "https://login.example.com/keys",
}


def problems_of(**keys):
    with pytest.raises(ConfigError) as raised:
        stack(**keys)
    return raised.value.problems


def test_a_stack_without_models_is_an_environment():
    config = stack()
    assert config.models == {}, "`slipway:models: {}` must bring up the environment alone, for the first model's sake"
    assert config.platform.gateway_port == 8080


def test_what_the_tools_recorded_is_the_default_and_the_stack_file_wins():
    own = f"registry.example/inference@{SHA}"
    config = stack(images={"inference": own}, addons={"istio": {"charts": "/own/charts"}})
    assert config.images["inference"] == own
    assert config.images["mlflow"] == RECORDS.images["mlflow"], "naming one image must not lose the recorded others"
    assert config.addons.istio.charts == "/own/charts"
    assert stack().addons.istio.charts == RECORDS.istio_charts


def test_an_accepted_configuration_cannot_be_changed():
    config = stack(models={"m": realtime()})
    with pytest.raises(ValueError, match="frozen"):
        config.models["m"].startup_seconds = 1


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"platform": {"kind": "local", "gatewayPrt": 80}},
            "slipway:platform.gatewayPrt: 80 → no such key → did you mean gatewayPort?",
        ),
        (
            {"platform": {"kind": "local", "gateway_port": 8081}},
            "slipway:platform.gateway_port: 8081 → no such key → did you mean gatewayPort?",
        ),
        ({"modles": {}}, "slipway:modles: {} → no such key → did you mean models?"),
        (
            {"platform": {"kind": "azure"}},
            "slipway:platform.kind: \"azure\" → one of a fixed set → choose 'local', 'aws' or 'reference'",
        ),
        (
            {"platform": {"kind": "local", "gatewayPort": "web"}},
            'slipway:platform.gatewayPort: "web" → a whole number → write it in digits, without quotes or fraction',
        ),
        (
            {"platform": {"kind": "local", "gatewayPort": 80}},
            "slipway:platform.gatewayPort: 80 → at least 1024 → raise it",
        ),
        ({"platform": {}}, "slipway:platform.kind: missing → required → add it"),
        ({"models": 3}, "slipway:models: 3 → a map of keys to values → indent its keys below it"),
        (
            {"models": {"fraud": realtime(traffic={"v1": 90})}},
            'slipway:models.fraud.traffic: {"v1": 90} → sums to 100 → change the weights of v1 by +10 in all',
        ),
        (
            {"models": {"fraud": realtime(traffic={"v2": 100})}},
            'slipway:models.fraud.traffic: {"v2": 100} → only releases of the model (not v2) → one of: v1',
        ),
        (
            {"models": {"fraud": realtime(releases={"v1": {"model": "fraud/1"}})}},
            (
                'slipway:models.fraud.releases.v1.model: "fraud/1" → a registered model with a version or an alias → '
                "write models:/<name>/<version> or models:/<name>@<alias>"
            ),
        ),
        (
            {"models": {"fraud": realtime(releases={"v1": {"model": "models:/f/1", "resorces": {}}})}},
            "slipway:models.fraud.releases.v1.resorces: {} → no such key → did you mean resources?",
        ),
        (
            {"models": {"fraud": realtime(releases={"v1": {"model": "models:/f/1", "env": {"SLIPWAY_RELEASE": "x"}}})}},
            (
                'slipway:models.fraud.releases.v1.env.SLIPWAY_RELEASE: "SLIPWAY_RELEASE" → '
                "the program sets this variable itself → use the key that stands for it, or drop it"
            ),
        ),
        (
            {"models": {"Fraud": realtime()}},
            (
                'slipway:models.Fraud: "Fraud" → a lower-case DNS label that starts with a letter → '
                "use a-z, 0-9 and inner hyphens"
            ),
        ),
        (
            {"evidence": {"enforcement": "mandatory"}},
            (
                "slipway:evidence.signers: [] → a mandatory gate names whom it believes: anyone can sign with a key of "
                "their own → add the key that `slipway models signer` prints"
            ),
        ),
        (
            {"evidence": {"signers": ["mine"]}},
            (
                'slipway:evidence.signers.0: "mine" → an Ed25519 public key → '
                "write ed25519:<base64>, as `slipway models signer` prints it"
            ),
        ),
        (
            {"evidence": {"minimum": {"logLoss": 0.1}}},
            (
                'slipway:evidence.minimum.logLoss: "logLoss" → one of a fixed set → '
                "choose 'rocAuc', 'accuracy', 'f1', 'f1Macro' or 'r2'"
            ),
        ),
        (
            {"evidence": {"regressionMargin": {"rocAuc": -0.1}}},
            "slipway:evidence.regressionMargin.rocAuc: -0.1 → at least 0.0 → raise it",
        ),
        (
            {"models": {"fraud": realtime(scaling={"min": True, "max": 2})}},
            (
                "slipway:models.fraud.scaling.min: true → a whole number → "
                "write it in digits, without quotes or fraction"
            ),
        ),
        (
            {"addons": {"mlflow": {"login": [{**ISSUER, "audiences": [""]}]}}},
            (
                'slipway:addons.mlflow.login.0.audiences.0: "" → an audience of tokens, without spaces → '
                "write the claim `aud` to the letter"
            ),
        ),
        ({"production": "yes!"}, 'slipway:production: "yes!" → true or false → write it without quotes'),
        (
            {"images": {"inference": "slipway.local/inference:latest"}},
            (
                'slipway:images.inference: "slipway.local/inference:latest" → an image by digest, a tag can move → '
                "run `slipway images build`, or write <repository>@sha256:<digest>"
            ),
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_named_with_its_key_the_rule_and_the_remedy(keys, problem):
    assert problems_of(**keys) == [problem]


def test_all_mistakes_are_named_at_once():
    found = problems_of(
        platform={"kind": "local", "gatewayPort": 0},
        models={"a": realtime(traffic={"v1": 1}), "b": realtime(relaeses={})},
        unknown=1,
    )
    named = {line.split(":")[1].split(" ")[0] for line in found}
    assert named == {"platform.gatewayPort", "models.a.traffic", "models.b.relaeses", "unknown"}, (
        "a person should not have to run the preview once for each mistake"
    )


def test_a_release_name_with_a_hyphen_is_refused_for_two_models_could_then_share_a_workload():
    lines = problems_of(models={"a": realtime(releases={"b-c": {"model": "models:/m/1"}}, traffic={"b-c": 100})})
    assert all("lower-case letters and digits" in line for line in lines)


@pytest.mark.parametrize("missing", sorted(RECORDS.images))
def test_an_image_that_was_not_built_is_named_with_the_command_that_builds_it(missing):
    records = replace(RECORDS, images={name: ref for name, ref in RECORDS.images.items() if name != missing})
    addons = {name: {"enabled": True} for name in ("kserve", "keda", "kuberay")} | {"istio": {"mtls": "strict"}}
    models = {"m": realtime(), "nightly": batch(), "wide": batch(engine="ray")}
    values = {
        "slipway:platform": '{"kind": "local", "kafka": {"enabled": true}}',
        "slipway:addons": json.dumps(addons),
        "slipway:models": json.dumps(models),
    }
    with pytest.raises(ConfigError) as raised:
        parse(values, records)
    assert raised.value.problems == [
        (
            f"slipway:images.{missing}: missing → every image is known by its digest → "
            "run `slipway images build` or set the key"
        )
    ]


def test_the_inference_image_is_not_asked_for_where_no_release_needs_it():
    records = replace(RECORDS, images={name: ref for name, ref in RECORDS.images.items() if name != "inference"})
    config = parse({"slipway:platform": '{"kind":"local"}', "slipway:models": "{}"}, records)
    assert "inference" not in config.images


def test_missing_charts_are_named():
    records = BuildRecords(images=RECORDS.images)
    with pytest.raises(ConfigError, match=r"slipway:addons\.istio\.charts: missing"):
        parse({"slipway:platform": '{"kind":"local"}', "slipway:models": "{}"}, records)


def test_a_whole_number_that_came_by_the_engine_is_one():
    config = stack(models={"fraud": realtime(traffic={"v1": 100.0}, scaling={"min": 2.0, "max": 3.0, "cpu": 70.0})})
    assert repr(config.models["fraud"].scaling.min) == "2"


def test_keys_of_other_namespaces_are_not_ours_to_refuse():
    values = {"slipway:platform": '{"kind":"local"}', "slipway:models": "{}", "kubernetes:context": "kind"}
    assert parse(values, RECORDS).models == {}


@pytest.mark.parametrize(
    ("traffic", "rule"),
    [({"v1": 100}, None), ({"v1": 90, "v2": 10}, None), ({"v1": 100, "v2": 0}, None), ({}, "sums to 100")],
)
def test_traffic_is_a_share_of_all_requests(traffic, rule):
    problem = traffic_problem(traffic, frozenset({"v1", "v2"}))
    assert (problem and problem[0]) == rule


def test_records_of_the_tools_are_read_from_the_build_directory(tmp_path):
    (tmp_path / "images.json").write_text('{"mlflow": "x"}')
    (tmp_path / "toolchain.json").write_text('{"istio_charts": "/charts", "more": 1}')
    records = read_records(tmp_path)
    assert records.images == {"mlflow": "x"}
    assert records.istio_charts == "/charts"


def test_no_records_are_no_error_before_something_needs_them(tmp_path):
    assert read_records(tmp_path) == BuildRecords()


def test_a_broken_record_is_named_with_the_command_that_writes_it(tmp_path):
    (tmp_path / "images.json").write_text('{"mlflow": ')
    with pytest.raises(ConfigError, match=r"images\.json: .* → holds JSON → run `slipway images build` again"):
        read_records(tmp_path)


def test_the_schema_beside_the_stack_files_is_current():
    assert SCHEMA_FILE.read_text() == rendered_schema(), "run `python -m infra.config.schema`"


def config_models():
    found = [ConfigModel]
    for model in found:
        found.extend(model.__subclasses__())
    return found[1:]


@pytest.mark.parametrize("model", config_models(), ids=lambda model: model.__name__)
def test_every_config_key_is_documented(model):
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name} has no docstring: editors and the reference show it"
    assert model.__doc__, f"{model.__name__} has no docstring"


def test_every_pattern_of_the_schema_has_words_for_people():
    text = json.dumps(stack_schema())
    for pattern in PATTERNS:
        assert json.dumps(pattern)[1:-1] in text, f"{pattern} explains a pattern that no key has"


def test_every_variable_that_a_stack_may_not_set_is_one_of_the_contract():
    assert all(variable.isupper() for variable in PROGRAMS_ENV)
