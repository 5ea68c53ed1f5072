from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from server.core.errors import ConfigurationError
from server.core.types import Profile, Risk, Route
from server.evaluation.arms import (
    CHANCE,
    EMBEDDERS,
    LADDER,
    ChanceEmbedder,
    ladder_arm,
    load_arm,
    patched_arm,
    with_arms,
)
from server.profiles.store import load_profiles
from server.settings import EmbedderKind
from tests.conftest import PROMPTS


@pytest.fixture(scope="module")
def shipped() -> Mapping[str, Profile]:
    return load_profiles(PROMPTS)


@pytest.fixture(scope="module", params=["default", "base", "gemma-3-270m"])
def ladder(request: pytest.FixtureRequest, shipped: Mapping[str, Profile]) -> Mapping[str, Profile]:
    """The profile of each step, as a server loads it, by the step's name."""
    arms = [ladder_arm(step, shipped[request.param]) for step in LADDER]
    with with_arms(PROMPTS, arms) as folder:
        profiles = load_profiles(folder)
    return {arm.id: profiles[arm.profile] for arm in arms}


def test_the_ladder_ends_with_the_profile_itself(ladder: Mapping[str, Profile], shipped: Mapping[str, Profile]) -> None:
    assert ladder["off"] == shipped["off"]
    assert ladder["ours"] in shipped.values()


def test_constant_demonstrations_are_pinned_and_one_refuses(ladder: Mapping[str, Profile]) -> None:
    constant, ours = ladder["constant"], ladder["ours"]
    assert [item.risk for item in constant.pinned] == [Risk.BENIGN, Risk.BENIGN, Risk.HARMFUL]
    assert len({item.topic for item in constant.pinned}) == 3
    assert {(item.language, item.history) for item in constant.pinned} == {("en", ())}
    assert constant.retrieval.num_demonstrations == constant.retrieval.num_principles == 0
    assert (constant.template, constant.constitution) == (ours.template, ours.constitution)


@pytest.mark.parametrize("step", ["topk", "random"])
def test_the_nearest_are_taken_whatever_they_are(ladder: Mapping[str, Profile], step: str) -> None:
    settings, count = ladder[step].retrieval, ladder["ours"].retrieval.num_demonstrations
    assert settings.num_demonstrations == count == 4
    assert settings.quotas == {route: dict.fromkeys(Risk, 4) for route in Route}
    assert (settings.mmr_lambda, settings.min_similarity, settings.num_principles) == (1, -1, 0)
    assert ladder[step].openings == ladder[step].reminders == {}
    assert ladder[step].aligned_routes == frozenset(Route)
    assert ladder[step].demonstrations == ladder["ours"].demonstrations


def test_only_chance_has_an_embedder_of_its_own(shipped: Mapping[str, Profile]) -> None:
    found = {step: ladder_arm(step, shipped["default"]).embedder for step in LADDER}
    assert found == {**dict.fromkeys(LADDER), "random": CHANCE}


def test_an_embedder_is_the_profile_with_it(shipped: Mapping[str, Profile]) -> None:
    arm = load_arm("minilm", shipped["base"])
    assert (arm.id, arm.profile, arm.patch, arm.embedder) == ("minilm", "base", None, "minilm")
    assert set(EMBEDDERS) == {kind.value for kind in EmbedderKind} - {"auto"}


def test_a_patch_is_a_profile_that_extends(tmp_path: Path, shipped: Mapping[str, Profile]) -> None:
    (tmp_path / "k2.yaml").write_text("retrieval: {num_demonstrations: 2}\nplacement: system\n")
    arm = load_arm(f"k2={tmp_path / 'k2.yaml'}", shipped["default"])
    assert arm.title == "profile default with k2.yaml"
    with with_arms(PROMPTS, [arm]) as folder:
        profile = load_profiles(folder)[arm.profile]
    assert profile.retrieval.num_demonstrations == 2
    assert profile.placement == "system"
    assert profile.retrieval.quotas == shipped["default"].retrieval.quotas
    assert not folder.exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("best", "there is no 'best'; there are off, constant, random, topk, ours, mpnet, .*, or give NAME=PATCH.yaml"),
        ("a=missing.yaml", "missing.yaml cannot be read"),
        ("a=list.yaml", "must hold fields of a profile"),
        ("a=faulty.yaml", "faulty.yaml cannot be read"),
    ],
)
def test_an_arm_that_cannot_be_is_told(shipped: Mapping[str, Profile], option: str, words: str) -> None:
    Path("list.yaml").write_text("- a\n")
    Path("faulty.yaml").write_text("a: [\n")
    with pytest.raises(ConfigurationError, match=words):
        load_arm(option, shipped["default"])


def test_a_bank_without_refusals_has_no_constant_arm(shipped: Mapping[str, Profile]) -> None:
    with pytest.raises(ConfigurationError, match="constant=PATCH.yaml"):
        ladder_arm("constant", shipped["off"])


def test_an_arm_does_not_hide_a_profile() -> None:
    with (
        with_arms(PROMPTS, [patched_arm("a", "a", "default", {})]) as folder,
        pytest.raises(ConfigurationError, match="'arm-a' already"),
        with_arms(folder, [patched_arm("a", "a", "default", {})]),
    ):
        pass


def test_chance_says_only_whether_texts_are_the_same() -> None:
    embedder = ChanceEmbedder(seed=3)
    vectors = embedder.embed([f"text {number}" for number in range(200)])
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(embedder.embed(["text 7"])[0], vectors[7])
    alike = vectors @ vectors.T - np.eye(200)
    assert abs(float(alike.mean())) < 0.01
    assert float(np.abs(alike).max()) < 0.7
    assert not np.array_equal(ChanceEmbedder(seed=4).embed(["text 7"])[0], vectors[7])
    assert embedder.name != ChanceEmbedder(seed=4).name
    assert embedder.embed([]).shape == (0, 64)
