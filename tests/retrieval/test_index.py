import numpy as np

from server.core.types import Vectors
from server.retrieval.index import NUM_NEAREST, nearest_others

RNG = np.random.default_rng(0)


def unit(num_rows: int) -> Vectors:
    rows = RNG.standard_normal((num_rows, 16)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_the_nearest_others_are_those_that_sorting_finds() -> None:
    vectors = unit(500)
    similarities, positions = nearest_others(vectors, [3, 77])
    assert similarities.shape == positions.shape == (2, NUM_NEAREST)
    for row, wanted in enumerate([3, 77]):
        order = [i for i in np.argsort(-(vectors @ vectors[wanted])).tolist() if i != wanted]
        assert set(positions[row].tolist()) == set(order[:NUM_NEAREST])
        np.testing.assert_allclose(similarities[row], vectors[positions[row]] @ vectors[wanted], atol=1e-6)


def test_among_few_it_is_itself_as_if_far_away() -> None:
    similarities, positions = nearest_others(unit(2), [1])
    assert positions.tolist() == [[0, 1]]
    assert similarities[0, 1] < -1


def test_nothing_wanted_or_nothing_there_is_no_fault() -> None:
    assert nearest_others(unit(5), [])[1].shape == (0, 5)
    assert nearest_others(unit(0), [])[1].shape == (0, 0)
