"""icalign's own metrics, in the format of Prometheus, and the endpoint that shows them after the engine's."""

from collections import Counter
from collections.abc import Iterator

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from server.api.caller import read_caller
from server.library import Library
from server.pipeline import Pipeline
from server.trace.record import Trace


class Metrics(Collector):
    """What the library holds, read when it is asked for, and counts of finished requests.

    Counted here instead of in prometheus-client's own counters, which write into files of all processes where vLLM has
    several.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._requests: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[str] = Counter()

    def observe(self, trace: Trace) -> None:
        """Count a request that is over. One that ended before its profile was known is not counted."""
        if trace.profile is not None:
            self._requests[trace.profile.id, trace.outcome] += 1
            self._tokens[trace.profile.id] += trace.tokens.get("alignment", 0)

    def collect(self) -> Iterator[Metric]:
        """Every metric, as prometheus-client asks for them."""
        yield from self._of_prompts()
        requests = CounterMetricFamily(
            "icalign_requests", "Requests by profile and outcome.", labels=["profile", "outcome"]
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        tokens = CounterMetricFamily("icalign_alignment_tokens", "Tokens that alignment added.", labels=["profile"])
        for profile, count in self._tokens.items():
            tokens.add_metric([profile], count)
        yield from (requests, tokens)

    def _of_prompts(self) -> Iterator[Metric]:
        library, prompts = self._library, self._library.current
        yield InfoMetricFamily("icalign_prompts", "The prompts in force.", {"version": prompts.version})
        profiles = InfoMetricFamily("icalign_profile", "The profiles in force.", labels=["profile"])
        for profile in prompts.profiles.current.values():
            profiles.add_metric([profile.id], {"version": profile.version})
        yield profiles
        loaded = "When the prompts in force were loaded."
        yield GaugeMetricFamily("icalign_prompts_loaded_timestamp_seconds", loaded, prompts.loaded_at_s)
        yield CounterMetricFamily(
            "icalign_prompts_changes", "Changes of prompts that came into force.", library.num_changes
        )
        yield CounterMetricFamily("icalign_prompts_failures", "Changes of prompts refused.", library.num_failures)
        findings = "Why the prompt files as they lie there are not in force; 0 where they are."
        yield GaugeMetricFamily("icalign_prompts_findings", findings, len(prompts.findings))


def metrics_of(app: FastAPI) -> Metrics:
    """The metrics of an application."""
    metrics: Metrics = app.state.metrics
    return metrics


def metrics_router(pipeline: Pipeline, metrics: Metrics) -> APIRouter:
    """The route over one pipeline."""
    router = APIRouter(tags=["health"])
    registry = CollectorRegistry()
    registry.register(metrics)

    @router.get("/metrics")
    async def show(request: Request) -> Response:
        """The engine's metrics, where it has any, followed by icalign's own."""
        content = await pipeline.engine_metrics(read_caller(request)) + generate_latest(registry)
        return Response(content, headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})

    return router
