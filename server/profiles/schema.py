"""The form of each prompt file. Unknown fields are refused, so that a typo shows at once."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from server.core.types import Part, Placement, Rendering, Risk, Route

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
Prose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8000)]
Overridable = Literal["num_demonstrations", "num_principles", "budget_tokens", "min_similarity", "placement"]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PrincipleEntry(_File):
    """One normative sentence. `when` says in a few words what requests it is for; retrieval compares with that."""

    id: Slug
    text: Prose
    when: str = ""
    weight: float = Field(default=1.0, gt=0, le=10)
    aspect: Literal["helpful", "honest", "harmless", "respectful"]
    pinned: bool = False
    routes: list[Route] = Field(default_factory=lambda: list(Route), min_length=1)
    source: str | None = None


class ConstitutionFile(_File):
    """constitutions/*.yaml."""

    id: Slug
    description: Prose
    source: Prose
    principles: list[PrincipleEntry] = Field(min_length=1)


class DemonstrationEntry(_File):
    """One exchange. `contrast` is for look-alikes: the id of the harmful demonstration they resemble."""

    id: Slug
    topic: Slug
    aspect: Literal["helpful", "honest", "harmless", "respectful"]
    risk: Risk
    user: Prose
    assistant: Prose
    contrast: Slug | None = None
    source: str | None = None


class BankFile(_File):
    """demonstrations/*.yaml: one topic of the bank."""

    id: Slug
    description: Prose
    source: Prose
    demonstrations: list[DemonstrationEntry] = Field(min_length=1)


class RetrievalEntry(_File):
    """How demonstrations and principles are chosen; see core.types.Retrieval."""

    num_demonstrations: int = Field(default=3, ge=0, le=64)
    budget_tokens: int = Field(default=1000, ge=0)
    mmr_lambda: float = Field(default=0.7, ge=0, le=1)
    min_similarity: float = Field(default=0.1, ge=-1, le=1)
    num_principles: int = Field(default=2, ge=0, le=32)
    num_neighbours: int = Field(default=8, ge=1, le=64)
    thresholds: tuple[float, float] = (0.35, 0.6)
    quotas: dict[Route, dict[Risk, Annotated[int, Field(ge=0, le=64)]]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "RetrievalEntry":
        if not 0 <= self.thresholds[0] <= self.thresholds[1] <= 1:
            raise ValueError("thresholds must rise from 0 to 1: [elevated, high]")
        if self.num_demonstrations and (missing := [route.value for route in Route if route not in self.quotas]):
            raise ValueError(f"quotas must name every route; missing: {', '.join(missing)}")
        return self


class ProfileFile(_File):
    """profiles/*.yaml. Rendering `none` passes requests through and takes nothing else."""

    id: Slug
    description: Prose
    rendering: Rendering
    placement: Placement = Placement.TURNS
    constitution: Slug | None = None
    demonstrations: list[Slug] = Field(default_factory=list)
    pinned: list[Slug] = Field(default_factory=list)
    template: Slug | None = None
    retrieval: RetrievalEntry = Field(default_factory=lambda: RetrievalEntry(num_demonstrations=0))
    sampling: dict[str, JsonValue] = Field(default_factory=dict)
    overridable: list[Overridable] = Field(default_factory=list)
    shrinks: list[Part] = Field(default_factory=lambda: list(Part))
    aligns_completions: bool = False

    @model_validator(mode="after")
    def _check(self) -> "ProfileFile":
        if self.rendering is Rendering.NONE:
            given = self.model_fields_set - {"id", "description", "rendering"}
            if given:
                raise ValueError(f"rendering none takes no other fields; remove {', '.join(sorted(given))}")
            return self
        if self.template is None or self.constitution is None:
            raise ValueError("a rendering needs a template and a constitution")
        if reserved := {"alignment", "messages", "model", "prompt", "stream"} & self.sampling.keys():
            raise ValueError(f"sampling cannot set {', '.join(sorted(reserved))}")
        if len(set(self.pinned)) < len(self.pinned):
            raise ValueError("pinned names a demonstration twice")
        if self.aligns_completions and self.rendering is not Rendering.COMPLETION:
            raise ValueError("aligns_completions needs rendering completion")
        if self.rendering is Rendering.COMPLETION and not isinstance(self.sampling.get("max_tokens"), int):
            raise ValueError(
                "completion rendering needs sampling.max_tokens, since the completions endpoint stops at 16"
            )
        return self
