"""Fit the adapter by which all-mpnet-base-v2 tells harmful messages from harmless ones, to the shipped messages.

Low-rank changes (Hu et al. 2022, LoRA) of all linear layers but those of the first `FROZEN` blocks. The loss is that of
what the adapter is for: the label of a message by the weighted vote of its neighbours, as `server/retrieval/risk.py`
takes it (neighbourhood components analysis, Goldberger et al. 2004), against all others as they were last embedded and,
with gradients on both sides, against those of its batch. A further term keeps similarities near what they were. In the
end vectors are projected onto their principal directions, a third of all. An eighth of the messages is held out, for
`server/retrieval/risk.py` to calibrate by. With `--data DIR` it says after each pass how well public sets are
told apart.

    python tests/bench/fit_embedder.py --out server/retrieval/mpnet-adapter.npz [--data DIR] [--passes 1]

Takes some 15 minutes on two cores, and twice as long where they have no instructions for bfloat16. Further passes learn
the messages by heart, and judge others worse. Give the encoder another name with each new adapter
(server/retrieval/encoders.py), and then write the vectors of the messages anew:

    python tests/bench/write_vectors.py
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.core.types import Demonstration, RiskMessage
from server.engine.vllm import cpu_dtype
from server.profiles.store import load_profiles
from server.retrieval.encoders import MPNET, PROJECTION
from server.retrieval.index import NUM_NEAREST
from server.retrieval.risk import is_held_out, score_risk
from server.settings import default_prompts_dir
from tests.bench.bench_embedders import PUBLIC, area, read_sets

RANK = 8
SCALE = 2.0
FROZEN = 4
RATE = 4e-4
BATCH = 96
WARM_UP = 20
TEMPERATURE = 0.1
SMOOTHING = 0.05
BATCH_WEIGHT = 0.5
KEEP_WEIGHT = 2.0
MAX_TOKENS = 96
# Without instructions for it, bfloat16 takes a hundred times as long as float32.
HAS_BFLOAT16 = cpu_dtype() == "auto"
# Batches are of messages of about one length, out of so many.
POOL = 8


class LowRank(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked here
    """A linear layer with a product of two thin matrices added, which is zero at first."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base
        self.a = torch.nn.Parameter(torch.randn(RANK, base.in_features) / math.sqrt(base.in_features))
        self.b = torch.nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, states: Any) -> Any:
        return self.base(states) + SCALE * functional.linear(functional.linear(states, self.a), self.b)


class Encoder:
    """all-mpnet-base-v2 in two parts: the frozen blocks, whose results are kept, and those that are changed."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval().requires_grad_(requires_grad=False)
        self.blocks = self.model.encoder.layer
        for block in self.blocks[FROZEN:]:
            adapt(block)
        self.parameters = [item for item in self.model.parameters() if item.requires_grad]

    def tokenize(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        return [self.tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"] for text in texts]

    def start(self, ids: Sequence[Sequence[int]]) -> list[Any]:
        """What the frozen blocks make of each text, bfloat16 [tokens, width]."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, HAS_BFLOAT16):
            mask = mask_of(list(map(len, ids)))
            padded = torch.ones(mask.shape, dtype=torch.long)
            for row, text in enumerate(ids):
                padded[row, : len(text)] = torch.tensor(text)
            states = self._run(self.model.embeddings(input_ids=padded), mask, self.blocks[:FROZEN])
            return [states[row, : len(text)].bfloat16().clone() for row, text in enumerate(ids)]

    def finish(self, started: Sequence[Any]) -> Any:
        """Unit vectors [texts, width]."""
        mask = mask_of([len(item) for item in started])
        states = torch.nn.utils.rnn.pad_sequence(list(started), batch_first=True).float()
        with torch.autocast("cpu", torch.bfloat16, HAS_BFLOAT16):
            states = self._run(states, mask, self.blocks[FROZEN:]).float()
        weights = mask.unsqueeze(-1)
        return functional.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)

    def start_all(self, texts: Sequence[str], max_tokens: int) -> list[Any]:
        ids = self.tokenize(texts, max_tokens)
        started: list[Any] = [None] * len(texts)
        for part in by_length(list(map(len, ids))):
            for index, item in zip(part, self.start([ids[i] for i in part]), strict=True):
                started[index] = item
        return started

    def finish_all(self, started: Sequence[Any]) -> Any:
        vectors = torch.zeros(len(started), self.model.config.hidden_size)
        for part in by_length(list(map(len, started))):
            with torch.inference_mode():
                vectors[torch.from_numpy(part)] = self.finish([started[i] for i in part])
        return vectors

    def _run(self, states: Any, mask: Any, blocks: Any) -> Any:
        bias = self.model.encoder.compute_position_bias(states)
        hidden = (1 - mask)[:, None, None, :] * -1e4
        for block in blocks:
            found = block(states, hidden, position_bias=bias)
            states = found[0] if isinstance(found, tuple) else found
        return states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    profile = load_profiles(default_prompts_dir())["default"]
    items: list[RiskMessage | Demonstration] = [*profile.risk_messages, *profile.demonstrations]
    texts = [item.user for item in items]
    harmful = np.array([item.is_harmful for item in items])
    with tempfile.TemporaryDirectory() as scratch:
        encoder = Encoder(MPNET.locate(Path(scratch)))
    print(f"{len(texts)} messages, of which {sum(map(is_held_out, texts))} are held out")
    for number, vectors in enumerate(fit(encoder, texts, harmful, options.passes, options.seed)):
        projection = principal(vectors)
        save(encoder.model, projection, options.out)
        print(f"pass {number} is in {options.out}")
        if options.data:
            show(encoder, vectors, projection, harmful, options.data)


def fit(
    encoder: Encoder, texts: Sequence[str], harmful: NDArray[np.bool_], passes: int, seed: int
) -> Iterator[NDArray[np.float32]]:
    """Change the encoder; gives the vectors of all texts after each pass, those fitted to as they were in it."""
    started = encoder.start_all(texts, MAX_TOKENS)
    vectors = encoder.finish_all(started)
    before, labels = vectors.clone(), torch.from_numpy(harmful.astype(np.float32))
    held_out = torch.tensor(list(map(is_held_out, texts)))
    fitted, calibrating = (np.flatnonzero(held_out.numpy() == is_held) for is_held in (False, True))
    optimizer = torch.optim.AdamW(encoder.parameters, lr=RATE, weight_decay=0.01)
    rng, step, num_steps = np.random.default_rng(seed), 0, passes * math.ceil(len(fitted) / BATCH)
    for _ in range(passes):
        for part in batches(rng.permutation(fitted), list(map(len, started)), rng):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, step / WARM_UP) * (1 - step / num_steps)
            found = encoder.finish([started[i] for i in part])
            loss = loss_of(found, torch.from_numpy(part), vectors, before, labels, held_out)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters, 1.0)
            optimizer.step()
            vectors[torch.from_numpy(part)] = found.detach()
            step += 1
            if step % 10 == 0:
                print(f"  step {step} of {num_steps}: loss {loss.item():.3f}", flush=True)
        vectors[torch.from_numpy(calibrating)] = encoder.finish_all([started[i] for i in calibrating])
        yield vectors.numpy()


def loss_of(found: Any, chosen: Any, vectors: Any, before: Any, labels: Any, held_out: Any) -> Any:
    """See above; `found` are the vectors of the messages `chosen`, with gradients."""
    wanted = labels[chosen] * (1 - 2 * SMOOTHING) + SMOOTHING
    to_all = found @ vectors.T
    to_all[torch.arange(len(chosen)), chosen] = -9.0
    to_all[:, held_out] = -9.0
    among = found @ found.T
    losses = [
        functional.binary_cross_entropy(vote(similarities, voters).clamp(1e-4, 1 - 1e-4), wanted)
        for similarities, voters in ((to_all, labels), (among - 10 * torch.eye(len(chosen)), labels[chosen]))
    ]
    kept = (among - before[chosen] @ before[chosen].T).pow(2).mean()
    return losses[0] + BATCH_WEIGHT * losses[1] + KEEP_WEIGHT * kept


def vote(similarities: Any, labels: Any) -> Any:
    return torch.softmax(similarities / TEMPERATURE, dim=1) @ labels


def batches(order: NDArray[np.intp], lengths: Sequence[int], rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """All of `order`, messages of about one length together."""
    for start in range(0, len(order), BATCH * POOL):
        pool = order[start : start + BATCH * POOL]
        parts = [pool[part] for part in by_length([lengths[i] for i in pool])]
        yield from (parts[i] for i in rng.permutation(len(parts)))


def by_length(lengths: Sequence[int]) -> list[NDArray[np.intp]]:
    """The places of all `lengths`, the shortest first, a batch at a time."""
    order = np.argsort(lengths)
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def adapt(module: Any) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, torch.nn.Linear):
            setattr(module, name, LowRank(child))
        else:
            adapt(child)


def mask_of(lengths: Sequence[int]) -> Any:
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).float()


def principal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """[width, dimension], onto the directions in which `vectors` [texts, width] have most of their length."""
    return np.linalg.eigh(vectors.T @ vectors).eigenvectors[:, : -MPNET.dimension - 1 : -1]


def project(vectors: NDArray[np.float32], projection: NDArray[np.float32]) -> NDArray[np.float32]:
    projected = vectors @ projection
    return np.asarray(projected / np.linalg.norm(projected, axis=1, keepdims=True), np.float32)


def save(model: Any, projection: NDArray[np.float32], path: Path) -> None:
    changes = {name: module for name, module in model.named_modules() if isinstance(module, LowRank)}
    arrays = {f"{name}.a": module.a for name, module in changes.items()}
    arrays |= {f"{name}.b": module.b * SCALE for name, module in changes.items()}
    numbers = {name: array.detach().numpy() for name, array in arrays.items()} | {PROJECTION: projection}
    np.savez_compressed(path, **{name: array.astype(np.float16) for name, array in numbers.items()})


def show(
    encoder: Encoder,
    vectors: NDArray[np.float32],
    projection: NDArray[np.float32],
    harmful: NDArray[np.bool_],
    data: Path,
) -> None:
    scores, vectors = {}, project(vectors, projection)
    for name, prompts in read_sets(data).items():
        queries = project(encoder.finish_all(encoder.start_all(prompts, MAX_TOKENS)).numpy(), projection)
        scores[name] = [score_risk(vectors @ query, harmful, NUM_NEAREST) for query in queries]
    for first, second in PUBLIC:
        print(f"  area under the curve, {first} against {second}: {area(scores[first], scores[second]):.3f}")
    for tolerated in (0.05, 0.1):
        threshold = np.quantile(scores["XSTest safe"], 1 - tolerated)
        shares = ", ".join(f"{name} {np.mean(np.array(values) > threshold):.3f}" for name, values in scores.items())
        print(f"  above the score of all but {tolerated:.0%} of XSTest safe: {shares}", flush=True)


if __name__ == "__main__":
    main()
