"""Some edits under load; `make soak` makes a thousand."""

from pathlib import Path

from server.retrieval.base import Embedder
from tests.bench.soak_prompts import soak

# What asking costs beside that, on a machine that does other things too.
_LONGEST_S = 2.0
_KEEP_VERSIONS = 3


def test_edits_under_load_fail_and_mix_nothing(tmp_path: Path, light_embedder: Embedder) -> None:
    result = soak(tmp_path, num_edits=15, keep_versions=_KEEP_VERSIONS, embedder=light_embedder)
    assert result.faults == []
    assert (result.num_edits, result.num_invalid, len(result.seconds_to_live)) == (15, 3, 12)
    assert result.requests["whole"] > 15
    assert result.requests["streamed"] > 15
    assert max(result.seconds_to_live) < _LONGEST_S
    assert result.objects[-1]["Retriever"] <= result.objects[3]["Retriever"] + 12
