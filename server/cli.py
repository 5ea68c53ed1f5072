"""The command line: serve, config, prepare, and the editors' commands, which are in commands/."""

import logging
import socket
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import anyio.to_thread
import orjson
import typer
import uvicorn
from fastapi import FastAPI

from server.api.admission import Admission
from server.api.starting import starting
from server.commands.check import check
from server.commands.compare import compare
from server.commands.diff import diff
from server.commands.evaluate import evaluate
from server.commands.new import new
from server.commands.output import fail, remark
from server.commands.render import render
from server.commands.retrieve import retrieve
from server.commands.schema import schema
from server.commands.test import run_tests
from server.commands.tune import tune
from server.commands.workbench import ConfigOption
from server.core.errors import IcalignError
from server.core.types import Caller
from server.pipeline import Pipeline
from server.settings import EmbedderKind, EngineKind, Settings, load_settings

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Align a frozen model at request time.")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    config: ConfigOption = None,
    model: Annotated[str | None, typer.Option(help="Packaged model, folder or Hugging Face name.")] = None,
    served_name: Annotated[str | None, typer.Option(help="What clients call the model.")] = None,
    engine: Annotated[EngineKind | None, typer.Option(help="What runs prompts.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server.")] = None,
    upstream_api_key: Annotated[str | None, typer.Option(help="Better given as ICALIGN_UPSTREAM_API_KEY.")] = None,
    upstream_max_connections: Annotated[int | None, typer.Option(help="Connections kept to the upstream.")] = None,
    upstream_timeout_s: Annotated[float | None, typer.Option(help="Longest silence of the upstream.")] = None,
    script: Annotated[Path | None, typer.Option(help="Answers of the scripted engine.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Folder, file or name; by default the model's own.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder of prompt files.")] = None,
    default_profile: Annotated[str | None, typer.Option(help="Profile of requests that name none.")] = None,
    embedder: Annotated[EmbedderKind | None, typer.Option(help="What compares texts.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Where prepared models are kept.")] = None,
    api_keys: Annotated[list[str] | None, typer.Option("--api-key", help="A client's key; may be repeated.")] = None,
    max_requests: Annotated[int | None, typer.Option(help="Answered at once; more get 429.")] = None,
    window_tokens: Annotated[int | None, typer.Option(help="What the model takes, if the engine is silent.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Serve the aligned OpenAI API. Options not listed here are handed to vLLM unchanged."""
    flags = {name: value for name, value in context.params.items() if name != "config"}
    flags["engine_args"] = context.args or None
    flags["api_keys"] = api_keys or None
    try:
        _serve(load_settings(flags, config))
    except IcalignError as error:
        fail(error)


@app.command("config")
def show_config(config: ConfigOption = None) -> None:
    """Print the settings in force, secrets masked."""
    try:
        settings = load_settings({}, config)
    except IcalignError as error:
        fail(error)
    shown = settings.model_dump(mode="json")
    typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())


@app.command()
def prepare(
    model: Annotated[str, typer.Argument(help="Name of a packaged model.")], config: ConfigOption = None
) -> None:
    """Prepare a packaged model, the embedder and the prompts in the cache, and print the model's folder."""
    from server.app import load_embedder, load_library, load_tokenizer_for, model_location
    from server.engine.packaged import PACKAGED_MODELS

    if model not in PACKAGED_MODELS:
        fail(f"There is no packaged model {model!r}; there are {', '.join(PACKAGED_MODELS)}.")
    try:
        settings = load_settings({"model": model}, config)
        load_library(settings, load_embedder(settings, remark), load_tokenizer_for(settings, remark), remark)
        typer.echo(model_location(settings, remark))
    except IcalignError as error:
        fail(error)


app.command()(diff)
app.command()(render)
app.command()(retrieve)
app.command("test")(run_tests)
app.command("eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(evaluate)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(tune)
app.command()(check)
app.command()(compare)
app.command()(schema)
app.add_typer(new, name="new")


def main() -> None:
    """The entry point `icalign`."""
    app()


class _Server(uvicorn.Server):
    """Says what it serves once it does, and when told to stop takes no new requests but ends the ones under way."""

    def __init__(self, application: FastAPI, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings
        self._pipeline: Pipeline = application.state.pipeline
        self._admission: Admission = application.state.admission
        self._stop_at_s = float("inf")
        # Answers on the same socket until the engine has loaded, in a thread, since loading holds this one up.
        self._answering: threading.Thread
        self._meanwhile = uvicorn.Server(uvicorn.Config(starting, lifespan="off", log_level="warning"))

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        sockets = sockets or [self.config.bind_socket()]
        # Each server closes the sockets that it was given, hence the copies.
        copies = [listening.dup() for listening in sockets]
        self._answering = threading.Thread(target=self._meanwhile.run, args=(copies,), daemon=True)
        self._answering.start()
        super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._meanwhile.should_exit = True
        await anyio.to_thread.run_sync(self._answering.join)
        if self.started:
            self._announce(await self._first_model())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            raise SystemExit(128 + sig)  # nothing is under way, and loading heeds nothing gentler
        if self._admission.is_draining:
            super().handle_exit(sig, frame)
        else:
            self._admission.is_draining = True
            self._stop_at_s = time.monotonic() + self._settings.shutdown_s

    async def on_tick(self, counter: int) -> bool:
        is_done = self._admission.num_requests == 0 or time.monotonic() > self._stop_at_s
        self.should_exit = self.should_exit or (self._admission.is_draining and is_done)
        return await super().on_tick(counter)

    async def _first_model(self) -> str:
        """The engine's default model; an upstream that is not up yet has none to name."""
        try:
            async with self._pipeline.list_models(Caller()) as answer:
                name: str = answer.body["data"][0]["id"]  # type: ignore[index,call-overload]
                return name
        except (IcalignError, LookupError, TypeError):
            remark("The engine does not list its models yet.")
            return "MODEL"

    def _announce(self, model: str) -> None:
        port = self.servers[0].sockets[0].getsockname()[1]
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        url = f"http://{host}:{port}/v1"
        body = orjson.dumps(
            {"model": model, "messages": [{"role": "user", "content": "What makes bread rise?"}]}
        ).decode()
        prompts = self._pipeline.library.current
        names = ", ".join(sorted(prompts.profiles.current))
        remark(f"Serving {model} at {url}, profile {prompts.default_profile} unless asked otherwise.")
        remark(f"Ask for another as {model}:PROFILE, with PROFILE one of {names}. Try:")
        remark(f"  curl {url}/chat/completions -H 'Content-Type: application/json' -d '{body}'")


def _serve(settings: Settings) -> None:
    # Before anything is imported that would set up logging its own way.
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    # What vLLM loads raises the level of the root logger.
    logging.getLogger("server").setLevel(settings.log_level.upper())
    # One line for every request to an upstream says nothing that the trace does not.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    from server.app import create_app

    application = create_app(settings, report=remark)
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(application, config, settings)
    server.run()
    if not server.started:
        fail("The server did not start; the reason is above.")
