"""The frozen copy in the migration names layers as the program does: else it would share no row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from db.migrations.to_layers import fingerprints
from models.layers import layers_of
from models.manifest import read_manifest
from models.quality import QualityPolicy
from worker.ledger.releases import PIPELINE_VERSION, code_version

DEFAULT = read_manifest(Path(__file__).resolve().parents[5] / "models" / "releases" / "default")
VARIANTS = {
    "default": DEFAULT,
    "whole numbers": replace(
        DEFAULT,
        quality=replace(DEFAULT.quality, min_side=16, max_turn=1),
        branches=tuple(replace(branch, temperature=2, abstain=1) for branch in DEFAULT.branches),
    ),
    "other policy": replace(DEFAULT, quality=QualityPolicy(min_inside=0.123456789012345678)),
    "thresholds": replace(
        DEFAULT, branches=tuple(replace(b, thresholds=(0.5,) * len(b.labels)) for b in DEFAULT.branches)
    ),
    "no branch": replace(DEFAULT, branches=()),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("pipeline", [0, 3])
def test_the_frozen_copy_names_layers_as_the_program_does(name, pipeline):
    manifest = VARIANTS[name]
    expected = layers_of(manifest, pipeline)
    found = fingerprints.layers_of(json.loads(manifest.to_json()), pipeline)
    assert [one.fingerprint for one in found.all] == [one.fingerprint for one in expected.entries]
    for one, other in zip(found.all, expected.entries, strict=True):
        labels = None if other.labels is None else list(other.labels)
        assert (one.kind, one.parent, one.task, one.labels) == (other.kind, other.parent, other.task, labels)
        assert json.loads(json.dumps(one.spec)) == json.loads(json.dumps(other.spec))


def test_fields_that_older_programs_did_not_write_have_their_defaults():
    content = json.loads(DEFAULT.to_json())
    assert fingerprints.layers_of(content, 3) == fingerprints.layers_of(
        content | {"quality": {}, "detection": {}}, 3
    )  # those of the default release are the defaults
    for branch in content["branches"]:
        if not branch["thresholds"]:
            del branch["thresholds"]
        if not branch["stages"]:
            del branch["stages"]
    found = fingerprints.layers_of(content, 3)
    assert [one.fingerprint for one in found.all] == [one.fingerprint for one in layers_of(DEFAULT, 3).entries]


def test_a_release_apart_shares_no_layer():
    content = json.loads(DEFAULT.to_json())
    shared = {one.fingerprint for one in fingerprints.layers_of(content, 3).all}
    apart = {one.fingerprint for one in fingerprints.layers_of(content, 3, "f").all}
    assert not shared & apart
    assert len(apart) == len(shared)


def test_the_version_of_the_pipeline_is_read_from_that_of_the_code():
    assert fingerprints.pipeline_of(code_version()) == PIPELINE_VERSION
    assert fingerprints.pipeline_of("0.1.0") == 0
