"""A server that speaks as much of vLLM's API as rollouts need, on a tiny model of ours.

It samples with the adapters that it was told to load from disk, and with our noise, which it
reads from the seed of each request.
"""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from peft import PeftModel

from rlhf.chat import stop_token_ids
from rlhf.model.adapters import load_adapter
from rlhf.model.engine.generate import Sampling, sample_ids
from rlhf.model.load import load_base, load_tokenizer
from rlhf.model.scoring import at_temperature, taken_logprobs
from rlhf.model.start import Start

ADDED = "Success: LoRA adapter '{}' added successfully."


@dataclass
class FakeVLLM:
    """What the server holds, was asked and told, and how it misbehaves."""

    start: Start
    root: str
    max_lora_rank: int = 16
    enable_lora: bool = True
    allows_updates: bool = True
    sees: bool = True
    """Whether it has the disk that adapters are written to."""
    broken: int = 0
    """So many completions fail before one succeeds."""
    factor: float = 1.0
    """What it multiplies logprobs by before it says them."""
    drops: tuple[str, ...] = ()
    """Fields that it leaves out of a completion."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sent: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The files of each adapter as they were when it was loaded."""
    held: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def __post_init__(self):
        self.tokenizer = load_tokenizer(self.start.spec.path)
        self.model: Any = load_base(self.start.spec)
        self.lock = threading.Lock()

    def models(self) -> dict[str, Any]:
        cards: list[dict[str, Any]] = [{"id": "base", "root": self.root, "parent": None}]
        cards += [{"id": n, "root": path, "parent": "base"} for n, path in self.held.items()]
        return {"object": "list", "data": cards}

    def load(self, body: dict[str, Any]) -> tuple[int, Any]:
        name, folder = body["lora_name"], Path(body["lora_path"])
        if name in self.held:
            return 400, error(f"The lora adapter '{name}' has already been loaded.")
        if not self.enable_lora:
            return 500, error("Call to add_lora method failed: LoRA is not enabled.")
        if not self.sees:
            return 404, error(f"Loading lora {name} failed: No adapter found for {folder}")
        rank = json.loads((folder / "adapter_config.json").read_text())["r"]
        if rank > self.max_lora_rank:
            return 500, error(f"LoRA rank {rank} is greater than max_lora_rank 16.")
        self.sent[name] = {p.name: p.read_bytes() for p in folder.iterdir()}
        self.model = load_adapter(self.model, folder, name, trainable=False)
        self.held[name] = str(folder)
        return 200, ADDED.format(name)

    def unload(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["lora_name"]
        if name not in self.held:
            return 404, error(f"The lora adapter '{name}' cannot be found.")
        del self.held[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.broken:
            self.broken -= 1
            return 503, error("The engine is busy.")
        if body["model"] not in self.held:
            return 404, error(f"The model `{body['model']}` does not exist.")
        assert isinstance(self.model, PeftModel)
        self.model.set_adapter(body["model"])
        assert body["stop_token_ids"] == stop_token_ids(self.tokenizer)
        assert body["ignore_eos"]
        sampling = Sampling(
            max_new_tokens=body["max_tokens"],
            temperature=body["temperature"],
            seed=body["seed"] >> 32,
            first=body["seed"] % 2**32,
        )
        said: list[float] = []

        def watch(rows, step, states, logits, tokens):  # noqa: ARG001
            each = taken_logprobs(at_temperature(logits, sampling.temperature), tokens)
            said.append(self.factor * float(each))

        [ids] = sample_ids(self.model, self.tokenizer, [body["prompt"]], sampling, watch=watch)
        choice = {
            "index": 0,
            "text": self.tokenizer.decode(ids, skip_special_tokens=True),
            "token_ids": ids,
            "prompt_token_ids": body["prompt"],
            "logprobs": {"token_logprobs": said, "tokens": [f"token_id:{i}" for i in ids]},
        }
        return 200, {"choices": [{k: v for k, v in choice.items() if k not in self.drops}]}

    def respond(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        with self.lock:
            self.asked.append((path, body))
            if path == "/v1/models":
                return 200, self.models()
            if path == "/v1/completions":
                return self.complete(body)
            if path == "/v1/load_lora_adapter" and self.allows_updates:
                return self.load(body)
            if path == "/v1/unload_lora_adapter" and self.allows_updates:
                return self.unload(body)
            return 404, {"detail": "Not Found"}


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "code": 400}}


@contextmanager
def serving(fake: FakeVLLM) -> Generator[FakeVLLM]:
    """``fake`` behind an address, for the length of a ``with`` block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, said = fake.respond(self.path, body)
            is_text = isinstance(said, str)
            raw = said.encode() if is_text else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: Any):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
