from server.evaluation.measures.base import Answer, Applied
from server.evaluation.measures.cost import cost_values


def test_what_a_server_tells_is_counted() -> None:
    applied = Applied("default@1", tokens={"alignment": 700}, aligning_ms=4.5)
    answer = Answer("Yes.", "stop", applied, prompt_tokens=800, cached_tokens=600, latency_ms=90.0)
    assert cost_values(answer) == {
        "alignment_tokens": 700,
        "cached": 0.75,
        "latency": 90,
        "aligning": 4.5,
        "calls": 1,
    }


def test_what_it_does_not_tell_is_left_out() -> None:
    assert cost_values(Answer("Yes.", "stop", latency_ms=90.0)) == {"alignment_tokens": 0, "latency": 90, "calls": 1}
