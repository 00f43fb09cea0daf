"""Checkpoints that carry code: none of it runs. The traps are shown to work on readers that trust them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_samples import raw_config, write_checkpoint, write_tokenizer
from transformers import AutoTokenizer, dynamic_module_utils

from saguaro.builder.checkpoint import check_pair, load_tokenizer, open_checkpoint

MODULE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class EvilConfig(LlamaConfig): pass
class EvilModel(LlamaForCausalLM): pass
class EvilTokenizer(PreTrainedTokenizerFast): pass
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


class Trap:
    """Writes the marker when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self.marker, "ran")


def with_code(directory: Path, marker: Path) -> None:
    """A checkpoint whose configuration, model and tokenizer all name classes in its own module."""
    classes = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    write_checkpoint(directory, raw_config(auto_map=classes))
    auto_map = {"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]}
    write_tokenizer(directory, tokenizer_class="EvilTokenizer", auto_map=auto_map)
    (directory / "evil.py").write_text(MODULE.format(marker=str(marker)))


def test_auto_map_is_not_followed(tmp_path: Path, marker: Path) -> None:
    with_code(tmp_path / "a", marker)
    checkpoint = open_checkpoint(str(tmp_path / "a"))
    tokenizer = load_tokenizer(checkpoint.path)
    check_pair(checkpoint, checkpoint)
    assert tokenizer.decode(tokenizer.encode("def add")) == "def add"
    assert type(tokenizer).__module__.startswith("transformers.")
    assert not marker.exists()


def test_the_module_would_have_run(tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap is set the way transformers expects: asked to trust the checkpoint, it runs the module."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    with_code(tmp_path / "a", marker)
    AutoTokenizer.from_pretrained(tmp_path / "a", trust_remote_code=True)
    assert marker.exists()


def test_custom_tokenizer_without_tokenizer_json(tmp_path: Path, marker: Path, refused: Any) -> None:
    with_code(tmp_path / "a", marker)
    tokenizer = json.loads((tmp_path / "a" / "tokenizer.json").read_text())
    (tmp_path / "a" / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    (tmp_path / "a" / "tokenizer.json").unlink()
    refused(["tokenizer_config.json", "EvilTokenizer", "never run"], load_tokenizer, tmp_path / "a")
    assert not marker.exists()


def test_known_class_with_auto_map_without_tokenizer_json(tmp_path: Path, marker: Path, refused: Any) -> None:
    with_code(tmp_path / "a", marker)
    settings = json.loads((tmp_path / "a" / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "Qwen2Tokenizer"
    (tmp_path / "a" / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "a" / "tokenizer.json").rename(tmp_path / "a" / "vocab.json")
    refused(["tokenizer_config.json", "never run"], load_tokenizer, tmp_path / "a")
    assert not marker.exists()


@pytest.mark.parametrize("named", ["pipeline", "os", "subprocess.Popen", "Trainer", ["x"], 3, None])
def test_tokenizer_class_cannot_name_anything_else(tmp_path: Path, named: object, refused: Any) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named}))
    refused(["tokenizer_class"], load_tokenizer, tmp_path)


def test_pickles_beside_safetensors_are_left_alone(tmp_path: Path, marker: Path) -> None:
    stored = write_checkpoint(tmp_path / "a")
    write_tokenizer(tmp_path / "a")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "vocab.pkl", "tokenizer.bin"):
        (tmp_path / "a" / name).write_bytes(pickle.dumps(Trap(marker)))
    checkpoint = open_checkpoint(str(tmp_path / "a"))
    assert torch.equal(checkpoint.tensors.get("model.norm.weight"), stored["model.norm.weight"])
    load_tokenizer(checkpoint.path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_instead_of_safetensors(tmp_path: Path, marker: Path, name: str, refused: Any) -> None:
    write_checkpoint(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    (tmp_path / "a" / name).write_bytes(pickle.dumps(Trap(marker)))
    refused([tmp_path / "a", name, "safetensors"], open_checkpoint, str(tmp_path / "a"))
    assert not marker.exists()


@pytest.mark.parametrize("sharded", [False, True])
def test_a_pickle_that_is_called_safetensors(
    tmp_path: Path, marker: Path, sharded: bool, refused: Any
) -> None:
    write_checkpoint(tmp_path / "a", shards=2 if sharded else 1)
    file = sorted((tmp_path / "a").glob("*.safetensors"))[0]
    torch.save({"model.norm.weight": Trap(marker)}, file)
    refused([file], open_checkpoint, str(tmp_path / "a"))
    assert not marker.exists()


def test_the_pickle_would_have_run(marker: Path) -> None:
    pickle.loads(pickle.dumps(Trap(marker)))
    assert marker.exists()


def test_chat_templates_run_in_a_sandbox(tmp_path: Path, marker: Path) -> None:
    escape = f"{{{{ ''.__class__.__mro__[1].__subclasses__()[0]({str(marker)!r}) }}}}"
    write_tokenizer(tmp_path / "a", chat_template=escape)
    tokenizer = load_tokenizer(tmp_path / "a")
    with pytest.raises(Exception, match="unsafe"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
