from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.settings import EngineKind, Settings, load_settings

FILE = 'upstream = "http://file/v1"\nport = 1\nhost = "from-file"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "icalign.toml"
    path.write_text(FILE)
    return path


def test_defaults_serve_the_packaged_model() -> None:
    settings = load_settings({})
    assert (settings.engine, settings.model, settings.host, settings.port) == (
        EngineKind.VLLM,
        "smollm2-135m-instruct",
        "127.0.0.1",
        8000,
    )
    assert (settings.prompts / "profiles").is_dir()


def test_flags_beat_environment_beats_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICALIGN_PORT", "2")
    monkeypatch.setenv("ICALIGN_UPSTREAM", "http://environment/v1")
    settings = load_settings({"port": 3, "model": None})
    assert (settings.port, settings.upstream, settings.host) == (3, "http://environment/v1", "from-file")


def test_an_upstream_chooses_its_engine_wherever_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICALIGN_UPSTREAM", "http://environment/v1")
    assert load_settings({}).engine is EngineKind.UPSTREAM
    assert load_settings({"engine": "scripted"}).engine is EngineKind.SCRIPTED


def test_a_file_can_be_named(config: Path) -> None:
    other = config.rename(config.with_name("other.toml"))
    assert load_settings({}).port == 8000
    assert load_settings({}, other).port == 1
    with pytest.raises(ConfigurationError, match="there is no file"):
        load_settings({}, config)


def test_engine_arguments_in_the_environment_split_as_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICALIGN_ENGINE_ARGS", "--max-model-len 2048 --chat-template 'a b'")
    assert load_settings({}).engine_args == ["--max-model-len", "2048", "--chat-template", "a b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("prt = 1", "prt: there is no such setting; known are engine, model"),
        ('port = "x"', "port: .*found 'x'"),
        ("port = 99999", "port: .*65535"),
        ('engine = "other"', "engine: .*'vllm', 'upstream' or 'scripted'"),
        ('engine = "upstream"', "engine upstream needs upstream"),
        ("port = ", "icalign.toml"),
    ],
)
def test_a_bad_setting_is_one_clear_message(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "icalign.toml").write_text(content)
    with pytest.raises(ConfigurationError, match=words):
        load_settings({})


@pytest.mark.parametrize(
    ("given", "continues"),
    [
        ({}, True),
        ({"upstream": "http://x/v1"}, False),
        ({"upstream": "http://x/v1", "upstream_continues": True}, True),
    ],
)
def test_an_upstream_continues_messages_where_its_operator_says_so(given: dict[str, object], continues: bool) -> None:
    assert load_settings(given).continues_messages is continues


def test_secrets_are_masked_when_shown() -> None:
    settings = load_settings({"upstream_api_key": "sk-secret"})
    assert "sk-secret" not in f"{settings!r} {settings.model_dump(mode='json')}"


def test_every_setting_has_a_place_in_the_readme() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    assert [name for name in Settings.model_fields if f"`{name}`" not in readme] == []
