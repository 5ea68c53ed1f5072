"""The alignment endpoints: see what would be done to a request, without generating."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.api.body import read_object
from server.api.caller import read_caller
from server.api.errors import json_response
from server.api.trace import trace_of
from server.core.errors import InvalidRequestError
from server.core.types import Body, Profile
from server.library import Prompts
from server.pipeline import Pipeline, profile_names
from server.profiles.resolve import AlignmentOptions, default_for
from server.rendering.forms.chat import ChatForm
from server.rendering.forms.registry import FORMS


class RetrieveRequest(BaseModel):
    """What to retrieve for."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=100_000)
    count: int = Field(default=8, ge=1, le=64)
    alignment: AlignmentOptions | None = None


def alignment_router(pipeline: Pipeline) -> APIRouter:
    """Routes over one pipeline."""
    router = APIRouter(prefix="/v1/alignment", tags=["alignment"])

    @router.post("/render")
    async def render(request: Request, endpoint: Annotated[str, Query()] = ChatForm.path) -> Response:
        """The request the engine would get for this one, with token counts, risk and what was chosen.

        `endpoint` is the path that the request is for.
        """
        if endpoint not in FORMS:
            raise InvalidRequestError(f"endpoint must be one of {', '.join(FORMS)}.", param="endpoint")
        body, caller = await read_object(request), read_caller(request)
        return json_response(200, await pipeline.preview(FORMS[endpoint], body, caller, trace_of(request)))

    @router.post("/retrieve")
    async def retrieve(request: Request) -> Response:
        """What retrieval chooses for a text, the nearest demonstrations, and what decided the risk."""
        wanted = _parse(await read_object(request))
        body = wanted.model_dump(exclude_unset=True)
        caller, trace = read_caller(request), trace_of(request)
        return json_response(200, await pipeline.retrieve(wanted.text, body, wanted.count, caller, trace))

    @router.get("/profiles")
    async def list_profiles(request: Request, detail: Annotated[bool, Query()] = False) -> Response:
        """The profiles that the caller may ask for; with `detail`, their principles and demonstrations' ids."""
        caller, prompts = read_caller(request), pipeline.library.current
        names = profile_names(caller, prompts)
        data = [_profile(prompts, prompts.profiles.current[name], detail=detail) for name in names]
        default = default_for(caller, prompts.default_profile)
        # A key that is bound to profiles does not see into the files of others.
        findings = [asdict(finding) for finding in prompts.findings if caller.profiles is None]
        version = {"version": prompts.version, "loaded_at": int(prompts.loaded_at_s), "findings": findings}
        return json_response(200, {"object": "list", "default": default, **version, "data": data})

    return router


def _parse(body: Body) -> RetrieveRequest:
    try:
        return RetrieveRequest.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _profile(prompts: Prompts, profile: Profile, *, detail: bool) -> Body:
    body: Body = {
        "id": profile.id,
        "version": profile.version,
        "versions": [label.partition("@")[2] for label in prompts.profiles.versions(profile.id)],
        "description": profile.description,
        "rendering": profile.rendering.value,
        "placement": profile.placement.value,
        "constitution": profile.constitution.id or None,
        "num_principles": len(profile.constitution.principles),
        "num_demonstrations": len(profile.demonstrations),
        "num_risk_messages": len(profile.risk_messages),
        "pinned": [item.id for item in profile.pinned],
        "overridable": sorted(profile.overridable),
        "scope": dict(profile.scope),
        "sampling": dict(profile.sampling),
    }
    if detail:
        body["principles"] = [
            {"id": item.id, "text": item.text, "weight": item.weight, "pinned": item.pinned, "scope": item.scope}
            for item in profile.constitution.principles
        ]
        body["demonstrations"] = [item.id for item in profile.demonstrations]
    return body
