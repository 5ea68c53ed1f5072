from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.evaluation.candidates import changes_of, check_space, load_starts
from server.evaluation.search_space import default_space, load_space
from tests.conftest import PROMPTS


@pytest.mark.parametrize("name", ["default", "base", "company", "public-service-base"])
def test_the_default_space_fits_every_shipped_profile(name: str) -> None:
    (start,) = load_starts(PROMPTS, [name])
    space = default_space(start.profile)
    check_space(PROMPTS, start, space)
    changing = {
        coordinate.name: sum(bool(changes_of(value.patch, start.fields)) for value in coordinate.values)
        for coordinate in space.coordinates
    }
    assert min(changing.values()) >= 1
    assert ("placement" in changing) == (start.profile.rendering == "chat")
    # What the profile has already is not tried again.
    assert changing["num_demonstrations"] == changing["order"] == changing["opening"] == 2


def test_thresholds_are_around_the_profiles_own() -> None:
    (start,) = load_starts(PROMPTS, ["default"])
    (found,) = (item for item in default_space(start.profile).coordinates if item.name == "thresholds")
    pairs = {value.name: value.patch["retrieval"]["thresholds"] for value in found.values}
    elevated, high = start.profile.retrieval.thresholds
    low, lower = (pytest.approx(1 - 2 * (1 - value), abs=1e-4) for value in (elevated, high))
    higher = [pytest.approx((1 + value) / 2, abs=1e-4) for value in (elevated, high)]
    assert pairs == {
        "both lower": [low, lower],
        "both higher": higher,
        "high lower": [elevated, pytest.approx(max(elevated, 1 - 2 * (1 - high)), abs=1e-4)],
        "high higher": [elevated, higher[1]],
    }


def test_a_file_has_coordinates_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    order, k = "order: {canonical: {retrieval: {order: canonical}}}", "k: {2: {retrieval: {num_demonstrations: 2}}}"
    path.write_text(f"{order}\n{k}\n")
    assert load_space(path).describe() == {
        "order": {"canonical": {"retrieval": {"order": "canonical"}}},
        "k": {"2": {"retrieval": {"num_demonstrations": 2}}},
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "space.yaml:1: must be a mapping of coordinates"),
        ("- a\n", "space.yaml:1: must be a mapping of coordinates"),
        ("a: {b: {c: d}}\norder:\n", "space.yaml:2: order: must be a mapping of values"),
        ("order:\n  canonical: canonical\n", "space.yaml:2: order.canonical: must hold fields of a profile"),
        ("order:\n  other:\n    extends: base\n", "space.yaml:3: order.other.extends: cannot be tried"),
        ("order: [\n", "space.yaml:2: is not YAML"),
    ],
)
def test_a_broken_file_is_told_with_its_place(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load_space(path)
    assert words in str(caught.value)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ConfigurationError, match="space: nowhere.yaml cannot be read"):
        load_space(Path("nowhere.yaml"))
