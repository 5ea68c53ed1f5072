"""What is compared: profiles, and ablations of one, which are profiles too and need nothing special of a server.

The ladder goes from no alignment to the profile itself, with one thing more at each step, as the literature has it:
constant demonstrations (Lin et al. 2023, URIAL), demonstrations by chance and the nearest ones (Han 2023), all that the
profile does.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from server.core.errors import ConfigurationError
from server.core.types import Demonstration, Profile, Risk, Route, Vectors
from server.rendering.sanitise import Sanitiser

CHANCE = "chance"
"""The embedder of the arm `random`."""

LADDER = ("off", "constant", "random", "topk", "ours")

EMBEDDERS = ("mpnet", "minilm", "wordllama")
"""Arms that are the profile with another embedder, by its name among the settings."""

UNSANITISED = "unsanitised"
"""The arm that is the profile, but lets a client's text be control tokens and turn marks: what sanitising is for."""

_DIMENSION = 64
_NUM_ORDINARY = 2
# What a profile does by route, which no step below the profile itself does.
_NO_ROUTES: Mapping[str, Any] = {"openings": None, "reminders": None, "aligned_routes": None}


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a profile as its server knows it.

    An ablation's `patch` is what its profile says beyond the one that it extends (JSON merge patch, RFC 7396), that
    one's id included; `embedder` names what compares texts in place of the server's own. `sanitises` is False for
    UNSANITISED alone.
    """

    id: str
    title: str
    profile: str
    patch: Mapping[str, Any] | None = None
    embedder: str | None = None
    sanitises: bool = True

    @property
    def host(self) -> str | None:
        """Which application serves it; None is the one that has nothing special."""
        return self.embedder if self.sanitises else UNSANITISED


class TrustingSanitiser(Sanitiser):
    """Leaves all text as it is."""

    def text(self, text: str) -> str:
        """`text`."""
        return text

    def fenced(self, text: str) -> str:
        """`text`."""
        return text


def profile_arm(arm: str, profile: str) -> Arm:
    """`profile` as it is."""
    return Arm(arm, f"profile {profile}", profile)


def patched_arm(arm: str, title: str, profile: str, patch: Mapping[str, Any], embedder: str | None = None) -> Arm:
    """`profile` with `patch`, as a profile of its own."""
    return Arm(arm, title, f"arm-{arm}", {"extends": profile, "description": title, **patch}, embedder)


def ladder_arm(step: str, profile: Profile) -> Arm:
    """A step of the ladder up to `profile`, or that with another embedder.

    Raises ConfigurationError for an unknown step, or one that cannot be.
    """
    if step == "off":
        return Arm(step, "no alignment", "off")
    if step == "ours":
        return Arm(step, f"profile {profile.id}", profile.id)
    if step == "constant":
        return patched_arm(step, "the same few demonstrations for all", profile.id, _constant(profile))
    if step == "random":
        return patched_arm(step, "demonstrations by chance", profile.id, _nearest(profile), CHANCE)
    if step == "topk":
        return patched_arm(step, "the nearest demonstrations", profile.id, _nearest(profile))
    if step in EMBEDDERS:
        return Arm(step, f"profile {profile.id} with embedder {step}", profile.id, embedder=step)
    if step == UNSANITISED:
        return Arm(step, f"profile {profile.id} without sanitising", profile.id, sanitises=False)
    there = ", ".join((*LADDER, *EMBEDDERS, UNSANITISED))
    raise ConfigurationError(f"arm: there is no {step!r}; there are {there}, or give NAME=PATCH.yaml.")


def load_arm(option: str, profile: Profile) -> Arm:
    """What `NAME=PATCH.yaml`, a step of the ladder or an embedder means. Raises ConfigurationError."""
    name, separator, path = option.partition("=")
    if not separator:
        return ladder_arm(option, profile)
    try:
        patch = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"arm: {path} cannot be read: {error}") from error
    if not isinstance(patch, dict):
        raise ConfigurationError(f"arm: {path} must hold fields of a profile, such as `retrieval: ...`.")
    return patched_arm(name, f"profile {profile.id} with {Path(path).name}", profile.id, patch)


@contextmanager
def with_arms(prompts: Path, arms: Sequence[Arm]) -> Iterator[Path]:
    """A copy of the folder `prompts` that has a profile for each of `arms` too, until the context is left.

    Raises ConfigurationError where an arm has the name of a profile that is there.
    """
    with TemporaryDirectory(prefix="icalign-") as scratch:
        copy = copytree(prompts, Path(scratch) / "prompts", ignore=ignore_patterns(".*", "tests", "schemas"))
        for arm in arms:
            if arm.patch is None:
                continue
            path = copy / "profiles" / f"{arm.profile}.yaml"
            if path.exists():
                raise ConfigurationError(
                    f"arm: {prompts} has a profile {arm.profile!r} already; name the arm otherwise."
                )
            path.write_text(yaml.safe_dump({"id": arm.profile, **arm.patch}, sort_keys=False), "utf-8")
        yield copy


class ChanceEmbedder:
    """Vectors that say nothing of a text but whether it is the same: what is nearest is nearest by chance.

    Directions are uniform: normal numbers, seeded by a hash of the text and `seed`.
    """

    dimension = _DIMENSION

    def __init__(self, seed: int = 0) -> None:
        self.name = f"{CHANCE}-{seed}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), 64], rows of unit length."""
        rows = np.array([self._draw(text) for text in texts], np.float64).reshape(len(texts), _DIMENSION)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def _draw(self, text: str) -> Any:
        seed = int.from_bytes(hashlib.sha256(f"{self.name}:{text}".encode()).digest())
        return np.random.default_rng(seed).standard_normal(_DIMENSION)


def _constant(profile: Profile) -> Mapping[str, Any]:
    """Two ordinary exchanges and a refusal for all requests; what the profile pins, where it pins a refusal."""
    pinned = profile.pinned if any(item.is_harmful for item in profile.pinned) else _typical(profile)
    retrieval = {"num_demonstrations": 0, "num_principles": 0}
    return {"pinned": [item.id for item in pinned], "retrieval": retrieval, **_NO_ROUTES}


def _typical(profile: Profile) -> Sequence[Demonstration]:
    """Of the bank's single exchanges in its main language: two ordinary ones of different topics, and a refusal.

    The first of each, which nobody chose for the prompts that are asked.
    """
    languages = Counter(item.language for item in profile.demonstrations)
    main = {language for language, _ in languages.most_common(1)}
    single = [item for item in profile.demonstrations if item.language in main and not item.history]
    ordinary = {item.topic: item for item in reversed(single) if item.risk is Risk.BENIGN}
    refused = [item for item in single if item.is_harmful]
    if len(ordinary) < _NUM_ORDINARY or not refused:
        raise ConfigurationError(
            f"arm: the bank of profile {profile.id!r} has no refusal and ordinary answers of two topics, which the arm "
            "`constant` shows; give that arm as constant=PATCH.yaml, or leave it out."
        )
    first = sorted(ordinary.values(), key=profile.demonstrations.index)
    return [*first[:_NUM_ORDINARY], refused[0]]


def _nearest(profile: Profile) -> Mapping[str, Any]:
    """As many as the profile shows, whatever they are, and nothing else that it does."""
    count = profile.retrieval.num_demonstrations
    quotas = {route.value: {risk.value: count for risk in Risk} for route in Route}
    settings = {"mmr_lambda": 1, "min_similarity": -1, "num_principles": 0}
    return {"retrieval": {"quotas": quotas, **settings}, **_NO_ROUTES}
