from dataclasses import replace

from server.core.types import Part, Profile, Rendering, Scored, Selection
from server.rendering.fit import fit, shed
from tests.rendering.builders import SELECTION, make_demonstration, make_principle, make_profile

PROFILE = make_profile(Rendering.CHAT)
ALL = replace(
    SELECTION,
    demonstrations=(
        Scored(make_demonstration("far", "f" * 10, "f" * 10), 0.2),
        Scored(make_demonstration("near", "n" * 10, "n" * 10), 0.6),
    ),
)


def allowing(*parts: Part) -> Profile:
    return replace(PROFILE, shrinks=frozenset(parts))


def remaining(selection: Selection) -> list[str]:
    return [
        *(item.id for item in selection.principles),
        *(item.id for item in selection.pinned),
        *(scored.item.id for scored in selection.demonstrations),
        *(scored.item.id for scored in selection.retrieved_principles),
    ]


def test_what_fits_keeps_all() -> None:
    fitted = fit(ALL, PROFILE, 0, len)
    assert (fitted.selection, fitted.demonstrations, fitted.principles) == (ALL, (), ())


def test_only_as_much_goes_as_must() -> None:
    assert fit(ALL, PROFILE, 1, len).demonstrations == ("far",)
    assert fit(ALL, PROFILE, 36, len).demonstrations == ("far",)
    assert fit(ALL, PROFILE, 37, len).demonstrations == ("far", "near")


def test_the_retrieved_goes_before_the_pinned_and_the_constitution_last() -> None:
    order = [remaining(fit(ALL, PROFILE, excess, len).selection) for excess in range(200)]
    steps = list(dict.fromkeys(tuple(step) for step in order))
    assert steps == [
        ("kind", "clear", "first", "far", "near", "sums"),
        ("kind", "clear", "first", "near", "sums"),
        ("kind", "clear", "first", "sums"),
        ("kind", "clear", "first"),
        ("kind", "clear"),
        ("kind",),
        (),
    ]


def test_a_reminder_goes_with_the_constitution_after_its_principles() -> None:
    reminded = replace(ALL, reminder="Weigh it.")
    fitted = fit(reminded, allowing(Part.CONSTITUTION), 10_000, len)
    assert (fitted.principles, fitted.reminders, fitted.selection.reminder) == (("clear", "kind"), ("low",), "")
    assert fit(reminded, allowing(Part.CONSTITUTION), 25, len).selection.reminder == "Weigh it."
    assert fit(reminded, allowing(Part.RETRIEVED, Part.PINNED), 10_000, len).selection.reminder == "Weigh it."
    only = replace(ALL, principles=(), reminder="Weigh it.")
    shorter = shed(only, allowing(Part.CONSTITUTION))
    assert shorter is not None
    assert (shorter.reminders, shorter.selection.reminder) == (("low",), "")


def test_the_least_similar_goes_first_in_any_order() -> None:
    nearest_first = replace(ALL, demonstrations=ALL.demonstrations[::-1])
    assert fit(nearest_first, PROFILE, 1, len).demonstrations == ("far",)


def test_a_profile_keeps_what_it_does_not_let_go() -> None:
    fitted = fit(ALL, allowing(Part.RETRIEVED), 10_000, len)
    assert remaining(fitted.selection) == ["kind", "clear", "first"]
    assert fitted.demonstrations == ("far", "near")
    assert fitted.principles == ("sums",)


def test_principles_of_least_weight_go_first() -> None:
    heavy = replace(make_principle("heavy", "Weigh."), weight=3.0)
    selection = replace(SELECTION, principles=(*SELECTION.principles, heavy))
    only = allowing(Part.CONSTITUTION)
    assert fit(selection, only, 1, len).principles == ("clear",)
    assert fit(selection, only, 10_000, len).principles == ("clear", "kind", "heavy")


def test_shedding_takes_one_part_at_a_time() -> None:
    selection, steps = ALL, []
    while (fitted := shed(selection, PROFILE)) is not None:
        selection = fitted.selection
        steps.append(fitted.demonstrations + fitted.principles)
    assert steps == [("far", "near", "sums"), ("first",), ("clear", "kind")]
    assert shed(ALL, allowing()) is None
