"""Edits of streams under the real engine: a preview shows exactly their effect."""

from __future__ import annotations

import pytest

from tests.infra.test_streaming import KAFKA, TOPICS, stream

pytestmark = pytest.mark.engine


def test_edits_of_topics_and_models_preview_exactly_their_effect(project, provider):
    def configure(topics=TOPICS, **model):
        project.configure(platform=KAFKA, topics=topics, models={"fraud": stream(**model)})

    configure()
    first = project.up()
    assert first, first.output
    password = provider.objects["Secret fraud-kafka"]["stringData"]["password"]
    assert password not in project.exported(), "credentials are encrypted in the stack's state"
    assert project.steps() == {}, "nothing was edited, so a preview shows nothing"

    configure(model="models:/fraud/8")
    assert project.steps() == {"Deployment fraud": "update", "StreamModel fraud": "update"}

    configure(topics={**TOPICS, "cards": {"partitions": 4}})
    done = project.preview()
    assert not done
    assert (
        "slipway:topics.cards.partitions: 4 → 6 there are, and Kafka takes none away: messages would go with them → "
        "set it to 6, or name another topic"
    ) in done.output

    configure(topics={**TOPICS, "cards": {"partitions": 8}})
    steps = project.steps()
    assert steps.pop("Job topics") in {"replace", "delete-replaced", "create-replacement"}
    assert steps == {"ConfigMap topics": "replace", "Partitions topics": "update"}, "the broker and the workers stay"
