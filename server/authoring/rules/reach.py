"""What no request can bring into a prompt. Silent while some profile cannot be made, since that one may show it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from server.authoring.rules.base import Entry, Subject, find
from server.core.errors import Finding
from server.core.types import Placement, Principle, Profile, Rendering, Risk, Route
from server.rendering.environment import variables_of

_RULE = "unreachable"


def check_files(subject: Subject) -> Iterator[Finding]:
    """Every file is used by some profile."""
    if not subject.is_whole:
        return
    profiles = subject.profiles.values()
    shown = frozenset().union(*subject.held.values())
    for name, bank in subject.folder.banks.items():
        if not shown & {item.id for item in bank.file.demonstrations}:
            mend = f"name {name} in the demonstrations of a profile, or remove the file"
            yield find(bank.document, (), "is in no profile", mend, _RULE)
    judging = {item.file for profile in profiles for item in profile.risk_messages}
    for name, risk in subject.folder.risk.items():
        if name not in judging:
            mend = f"name {name} in the risk of a profile, or remove the file"
            yield find(risk.document, (), "is in no profile", mend, _RULE)
    constitutions = {profile.constitution.id for profile in profiles}
    for name, loaded in subject.folder.constitutions.items():
        if name not in constitutions:
            mend = f"write constitution: {name} into a profile, or remove the file"
            yield find(loaded.document, (), "is in no profile", mend, _RULE)
    templates = {profile.template_id for profile in profiles}
    for name in subject.folder.templates:
        if name not in templates:
            mend = f"write template: {name} into a profile, or remove the file"
            yield Finding(f"templates/{name}.jinja", 1, "", "is in no profile", mend, _RULE, "warning")


def check_principles(subject: Subject) -> Iterator[Finding]:
    """Every principle that is not pinned can be retrieved by some profile."""
    if not subject.is_whole:
        return
    for name, loaded in subject.folder.constitutions.items():
        profiles = [profile for profile in subject.profiles.values() if profile.constitution.id == name]
        reached = {
            item.id for profile in profiles for item in profile.constitution.principles if _retrieves(profile, item)
        }
        for index, item in enumerate(loaded.file.principles if profiles else ()):
            if item.id not in reached:
                names = ", ".join(profile.id for profile in profiles)
                message = f"{item.id} can never be retrieved by {names}"
                mend = "pin it, or let num_principles, scope and routes of a profile reach it"
                yield find(loaded.document, ("principles", index, "id"), message, mend, _RULE)


def check_quotas(subject: Subject) -> Iterator[Finding]:
    """The risk of every demonstration has a quota on some route of a profile with it; one finding a file and risk."""
    if not subject.is_whole:
        return
    shown = {item.id for profile in subject.profiles.values() for item in profile.pinned}
    held: defaultdict[str, list[str]] = defaultdict(list)
    for profile in subject.profiles.values():
        risks = _shown_risks(profile)
        shown |= {item.id for item in profile.demonstrations if item.risk in risks}
        for item in profile.demonstrations:
            held[item.id].append(profile.id)
    groups: defaultdict[tuple[str, Risk], list[Entry]] = defaultdict(list)
    for entry in subject.entries:
        if entry.item.id in held and entry.item.id not in shown:
            groups[entry.file, entry.item.risk].append(entry)
    for (_, risk), entries in groups.items():
        others = f"and {len(entries) - 1} more of this risk here " if len(entries) > 1 else ""
        names = ", ".join(held[entries[0].item.id])
        message = f"{others}can never be shown by {names}, where no route has a quota for {risk.value}"
        mend = f"give {risk.value} a quota on a route of the profile; without it they only count for the risk"
        yield entries[0].find("risk", message, mend, _RULE)


def check_routes(subject: Subject) -> Iterator[Finding]:
    """What a profile has for a route is for one that requests can take."""
    for profile in subject.profiles.values():
        texts = [
            *(("reminders", route) for route in profile.reminders),
            *(("openings", route) for route in profile.openings),
        ]
        for name, route in texts:
            if route not in _routes(profile):
                mend = "take it out, or give the profile thresholds, harmful messages or aligned_routes that lead there"
                message = f"is for route {route.value}, which no aligned request takes"
                yield subject.find_in_profile(profile, (name, route.value), message, mend, _RULE)


def check_templates(subject: Subject) -> Iterator[Finding]:
    """A template has a place for all that its profiles put into a prompt."""
    left_out: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name in subject.templates:
        profile = subject.profiles[name]
        for variable in sorted(_wanted(profile) - variables_of(profile.template)):
            left_out[profile.template_id, variable, _model_of(profile)].append(name)
    for (template, variable, model), names in left_out.items():
        message = f"leaves out {variable}, so that no prompt of {', '.join(names)} has them"
        mend = f"write {variable} into it, as templates/{model}.jinja does"
        yield Finding(f"templates/{template}.jinja", 1, "", message, mend, "left-out", "warning")


def _retrieves(profile: Profile, item: Principle) -> bool:
    if item.pinned:
        return True
    counts = "scope" in profile.overridable or all(
        profile.scope.get(dimension) in {None, *values} for dimension, values in item.scope.items()
    )
    some = profile.retrieval.num_principles > 0 or "num_principles" in profile.overridable
    return some and counts and bool(item.routes & _routes(profile))


def _shown_risks(profile: Profile) -> frozenset[Risk]:
    retrieval = profile.retrieval
    if not retrieval.num_demonstrations and "num_demonstrations" not in profile.overridable:
        return frozenset()
    quotas = (retrieval.quotas.get(route, {}) for route in _routes(profile))
    return frozenset(risk for quota in quotas for risk, count in quota.items() if count)


def _routes(profile: Profile) -> frozenset[Route]:
    """The routes that a request can take and is aligned on: without anything harmful to compare with, all risk is 0."""
    elevated, high = profile.retrieval.thresholds
    has_harmful = any(item.is_harmful for item in (*profile.demonstrations, *profile.pinned)) or any(
        item.is_harmful for item in profile.risk_messages
    )
    begins: Mapping[Route, bool] = {
        Route.LOW: elevated > 0,
        Route.ELEVATED: elevated < high and (has_harmful or elevated == 0),
        Route.HIGH: has_harmful or high == 0,
    }
    return frozenset(route for route, can in begins.items() if can and route in profile.aligned_routes)


def _wanted(profile: Profile) -> frozenset[str]:
    retrieves = profile.retrieval.num_principles > 0 or "num_principles" in profile.overridable
    wanted = {"principles", "system"} | ({"retrieved_principles"} if retrieves else set())
    if profile.rendering is Rendering.COMPLETION:
        wanted |= {"reminder"} if profile.reminders else set()
        return frozenset(wanted | {"demonstrations", "exchanges", "question"})
    as_text = profile.placement is Placement.SYSTEM or "placement" in profile.overridable
    return frozenset(wanted | ({"demonstrations"} if as_text else set()))


def _model_of(profile: Profile) -> str:
    return "completion" if profile.rendering is Rendering.COMPLETION else "chat"
