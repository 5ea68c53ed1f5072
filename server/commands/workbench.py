"""What the editors' commands work with: the prompts, the tokenizer and the embedder that the server would use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from server.aligner import Aligner
from server.app import load_embedder, load_library, load_tokenizer_for, model_location
from server.authoring.rendered import Renderer
from server.commands.output import remark
from server.library import Library, Prompts
from server.rendering.tokens import EstimatingTokenizer, Tokenizer
from server.retrieval.base import Embedder
from server.settings import EmbedderKind, EngineKind, Settings, load_settings

PromptsOption = Annotated[Path | None, typer.Option("--prompts", help="Folder of prompt files.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; by default icalign.toml here.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Model whose tokenizer counts.")]
EmbedderOption = Annotated[EmbedderKind | None, typer.Option("--embedder", help="What compares texts.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for machines.")]


@dataclass(frozen=True)
class Workbench:
    """The server's parts, without server and engine."""

    settings: Settings
    tokenizer: Tokenizer
    embedder: Embedder

    @property
    def window_tokens(self) -> int | None:
        """What the model takes, prompt and answer together: as configured, else what the folder of a model says."""
        if self.settings.window_tokens is not None or self.settings.engine is not EngineKind.VLLM:
            return self.settings.window_tokens
        try:
            description = orjson.loads((Path(model_location(self.settings, remark)) / "config.json").read_bytes())
        except (ImportError, OSError, ValueError):
            return None
        limit = description.get("max_position_embeddings") if isinstance(description, dict) else None
        return limit if isinstance(limit, int) else None

    def load(self, prompts: Path | None = None) -> Library:
        """The prompts of a folder, by default the configured one. Raises ConfigurationError."""
        settings = self.settings if prompts is None else self.settings.model_copy(update={"prompts": prompts})
        return load_library(settings, self.embedder, self.tokenizer, remark)

    def renderer(self, prompts: Prompts) -> Renderer:
        """Renders as the server does."""
        continues = self.settings.continues_messages
        aligner = Aligner(self.tokenizer, embedder_name=self.embedder.name, continues_messages=continues)
        return Renderer(prompts, aligner, window_tokens=self.window_tokens)


def open_workbench(config: Path | None = None, **flags: Any) -> Workbench:
    """`flags` are settings, None where not given. Raises ConfigurationError.

    Where the model's tokenizer cannot be had, as in a light install, tokens are estimated, and a remark says so.
    """
    settings = load_settings(flags, config)
    return Workbench(settings, _load_tokenizer(settings), load_embedder(settings, remark))


def _load_tokenizer(settings: Settings) -> Tokenizer:
    try:
        return load_tokenizer_for(settings, remark)
    except (ImportError, OSError) as error:
        remark(f"Tokens are estimated, since the tokenizer of {settings.model} cannot be had: {error}")
        return EstimatingTokenizer()
