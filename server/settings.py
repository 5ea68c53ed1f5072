"""The only reader of the environment: flags over ICALIGN_* variables over icalign.toml."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from server.core.errors import ConfigurationError

CONFIG_FILE = "icalign.toml"


class EngineKind(StrEnum):
    """Which engine runs prompts."""

    VLLM = "vllm"
    UPSTREAM = "upstream"
    SCRIPTED = "scripted"


class EmbedderKind(StrEnum):
    """Which embedder compares texts; auto takes the first of the others that is installed.

    With mpnet, it is minilm that compares texts, and mpnet messages for their risk.
    """

    AUTO = "auto"
    MPNET = "mpnet"
    MINILM = "minilm"
    WORDLLAMA = "wordllama"


def default_prompts_dir() -> Path:
    """The prompts of this repository, or the ones inside an installed package."""
    package = Path(__file__).parent
    packaged = package / "prompts"
    return packaged if packaged.is_dir() else package.parent / "prompts"


def default_cache_dir() -> Path:
    """Where prepared models are kept: XDG's cache folder."""
    return Path("~/.cache/icalign").expanduser()


class ApiKey(BaseModel):
    """A client's key. `profiles` are the ones it may ask for, its default first; none given means all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="default", description="what traces and logs call it")
    key: SecretStr = Field(min_length=1)
    profiles: list[str] | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"key": value} if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything a deployer can set."""

    model_config = SettingsConfigDict(env_prefix="ICALIGN_", extra="forbid", toml_file=CONFIG_FILE, frozen=True)

    engine: EngineKind = EngineKind.VLLM
    model: str = Field(default="smollm2-135m-instruct", description="packaged model, folder or Hugging Face name")
    served_name: str | None = Field(default=None, description="what clients call the model; by default its own name")
    engine_args: Annotated[list[str], NoDecode] = Field(default_factory=list, description="handed to vLLM unchanged")
    upstream: str | None = Field(default=None, description="base URL of an OpenAI-compatible server")
    upstream_api_key: SecretStr | None = Field(default=None, description="instead of the client's own key")
    upstream_max_connections: int = Field(default=256, ge=1)
    upstream_timeout_s: float = Field(default=600.0, gt=0, description="longest silence of the upstream")
    upstream_continues: bool = Field(default=False, description="it takes continue_final_message, as vLLM does")
    script: Path | None = Field(default=None, description="answers of the scripted engine")
    tokenizer: str | None = Field(default=None, description="for counting; by default the model's own")
    window_tokens: int | None = Field(default=None, ge=1, description="what the model takes, if the engine is silent")
    api_keys: Annotated[list[ApiKey], NoDecode] = Field(
        default_factory=list, description="keys of clients; none means that all may ask"
    )
    max_requests: int = Field(default=1024, ge=1, description="answered at once; more get 429")
    max_body_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    keep_alive_s: float = Field(default=15.0, gt=0, description="silence of a stream before a comment keeps it open")
    shutdown_s: float = Field(default=30.0, ge=0, description="for requests under way when the server stops")
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="web origins whose pages may ask; * for all"
    )
    prompts: Path = Field(default_factory=default_prompts_dir, description="folder of prompt files")
    watch_prompts: bool = Field(default=True, description="whether changed prompt files come into force at once")
    keep_versions: int = Field(default=8, ge=1, description="versions of the prompts that can be asked for")
    default_profile: str | None = Field(default=None, description="for requests that name none")
    embedder: EmbedderKind = EmbedderKind.AUTO
    cache_dir: Path = Field(default_factory=default_cache_dir, description="where prepared models are kept")
    data: Path | None = Field(default=None, description="folder of evaluation data sets, for `icalign eval`")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    @property
    def continues_messages(self) -> bool:
        """Whether the engine goes on with a chat's last message where that is the beginning of an answer."""
        return self.engine is not EngineKind.UPSTREAM or self.upstream_continues

    @field_validator("engine_args", "api_keys", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return shlex.split(value) if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _choose_engine(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("upstream") and not values.get("engine"):
            return {**values, "engine": EngineKind.UPSTREAM}
        return values

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if self.engine is EngineKind.UPSTREAM and not self.upstream:
            raise ValueError("engine upstream needs upstream, the base URL of a server (https://host/v1)")
        if self.engine is not EngineKind.VLLM and self.engine_args:
            raise ValueError(
                f"engine_args are for vLLM, the engine is {self.engine.value}: {shlex.join(self.engine_args)}"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic-settings' own
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags over environment over file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(flags: dict[str, Any], config: Path | None = None) -> Settings:
    """What is in force; flags of value None are not given. Raises ConfigurationError naming the setting."""
    if config is not None and not config.is_file():
        raise ConfigurationError(f"config: there is no file {config}.")
    path = config or Path(CONFIG_FILE)

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return Configured(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigurationError("\n".join(_describe(fault) for fault in error.errors())) from error
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _describe(fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"]) or "settings"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return f"{name}: there is no such setting; known are {', '.join(Settings.model_fields)}"
    return f"{name}: {message}" if isinstance(fault["input"], dict) else f"{name}: {message} (found {fault['input']!r})"
