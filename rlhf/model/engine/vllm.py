"""Sampling from the policy on a vLLM server, which is sent adapters and nothing else.

Experimental: tested against a server that speaks vLLM's API, not yet run on a GPU.
"""

import hashlib
import shutil
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
from accelerate import PartialState
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlhf import processes
from rlhf.chat import stop_token_ids
from rlhf.errors import ModelError
from rlhf.model.adapters import save_adapter
from rlhf.model.engine.engines import Answers
from rlhf.model.engine.generate import Sampling, Watch
from rlhf.model.load import BaseSpec, fingerprint
from rlhf.model.roles import ADAPTER_OF

_AT_ONCE = 256
"""Requests under way; vLLM batches them as it sees fit."""
_TIMEOUT = httpx.Timeout(600.0, connect=10.0, pool=None)
_TRIES, _PAUSE = 3, 1.0
"""Of a request that may be repeated, and seconds in between."""
_GONE = int(httpx.codes.NOT_FOUND)
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank takes."""
_AS_IT_IS: dict[str, Any] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "ignore_eos": True,
}
"""What is left out vLLM takes from the base's generation_config.json, and its stop tokens too."""


class VLLM:
    """A server with the policy's base, to which the policy's adapter is sent as files.

    The adapter comes under a new name each time, because vLLM's prefix cache knows adapters by
    name: under an old one it would go on from what the last policy had computed. It is never
    merged, neither here nor there: merging into a 4-bit base rounds, and the errors add up.

    Args:
        url: the server; no other address is asked, and no proxy.
        policy: its adapter ``default`` is what is sent.
        tokenizer: says which tokens end a response.
        folder: where adapters are put, which the server must see under the same path.
        base: fingerprint of the policy's base.

    Raises:
        ModelError: nobody answers, the server serves another base, or vLLM cannot hold the
            adapter; the methods raise it where the server refuses.
    """

    shows_steps = False

    def __init__(
        self,
        url: str,
        policy: PeftModel,
        tokenizer: PreTrainedTokenizerFast,
        folder: Path,
        base: str,
    ) -> None:
        self._url, self._policy, self._folder = url.rstrip("/"), policy, folder.resolve()
        self._stops = stop_token_ids(tokenizer)
        self._rank = _rank(policy)
        self._prefix = f"policy-{hashlib.sha256(str(self._folder).encode()).hexdigest()[:8]}-"
        self._number = 0
        with self._connected():
            cards = self._cards()
            self._refuse_other_base(
                [str(c.get("root")) for c in cards if not c.get("parent")], base
            )
            if processes.is_first():
                for card in cards:  # of a run that was killed here
                    if card["id"].startswith(self._prefix):
                        self._unload(card["id"])
                if self._folder.exists():
                    shutil.rmtree(self._folder)

    @property
    def name(self) -> str:
        """The server's name for the policy of this moment."""
        return f"{self._prefix}{self._number}"

    def follow(self) -> None:
        """Send the policy's adapter, and take back the one before."""
        before, self._number = self.name, self._number + 1
        if processes.is_first():
            save_adapter(self._policy, self._folder / self.name, ADAPTER_OF["policy"])
            with self._connected():
                if self._number > 1:
                    self._unload(before)
                    shutil.rmtree(self._folder / before)
                self._load(self.name)
        PartialState().wait_for_everyone()

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        watch: Watch | None = None,
    ) -> Answers:
        """One request per prompt, since each has a seed of its own; vLLM shows nobody its steps."""
        assert watch is None
        with self._connected(), ThreadPoolExecutor(min(_AT_ONCE, len(prompts))) as pool:
            numbers = range(len(prompts))
            said = list(pool.map(partial(self._complete, sampling), numbers, prompts))
        return Answers([ids for ids, _ in said], [logprobs for _, logprobs in said])

    # -- requests --------------------------------------------------------------------------------

    @contextmanager
    def _connected(self) -> Generator[None]:
        """Connections for the length of a ``with`` block, none of which outlives it."""
        limits = httpx.Limits(max_connections=_AT_ONCE)
        with httpx.Client(
            base_url=self._url, timeout=_TIMEOUT, limits=limits, trust_env=False
        ) as self._http:
            yield

    def _complete(
        self, sampling: Sampling, number: int, prompt: Sequence[int]
    ) -> tuple[list[int], list[float]]:
        """Tokens and their logprobs; ids go both ways, because text is not always cut alike."""
        body = {
            "model": self.name,
            "prompt": list(prompt),
            "n": 1,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": request_seed(sampling, number),
            "stop_token_ids": self._stops,
            "logprobs": 0,
            "return_token_ids": True,
            **_AS_IT_IS,
        }
        response = self._call("POST", "/v1/completions", body, tries=_TRIES)
        if not response.is_success:
            raise ModelError(f"{self._url} does not answer a prompt: {_reason(response)}")
        [choice] = self._part(response, "choices")
        ids = cast("list[int] | None", choice.get("token_ids"))
        logprobs = cast(
            "list[float | None]", (choice.get("logprobs") or {}).get("token_logprobs") or []
        )
        if not ids or choice.get("prompt_token_ids") != list(prompt):
            raise ModelError(
                f"{self._url} does not take and give token ids as they are; serve with vLLM 0.10.2 "
                "or newer"
            )
        if len(logprobs) != len(ids) or None in logprobs:
            raise ModelError(
                f"{self._url} gives no logprob for each token; serve with vLLM itself, without a "
                "proxy that drops them"
            )
        return ids, cast("list[float]", logprobs)

    def _cards(self) -> list[dict[str, Any]]:
        """The base and the adapters that the server holds."""
        return self._part(self._call("GET", "/v1/models", tries=_TRIES), "data")

    def _load(self, name: str) -> None:
        folder = self._folder / name
        body = {"lora_name": name, "lora_path": str(folder)}
        response = self._call("POST", "/v1/load_lora_adapter", body)
        if response.is_success:
            return
        reason = _reason(response)
        remedies = {
            "max_lora_rank": f"add --max-lora-rank {self._rank}",
            "not found": "set VLLM_ALLOW_RUNTIME_LORA_UPDATING=True where it starts",
            "not enabled": "add --enable-lora",
            "no adapter found": f"let it see {self._folder} under this path",
        }
        fits = [remedy for words, remedy in remedies.items() if words in reason.lower()]
        remedy = fits[0] if fits else f"start it with {self._command()}"
        raise ModelError(f"{self._url} does not load the policy's adapter ({reason}); {remedy}")

    def _unload(self, name: str) -> None:
        """Take an adapter from the server, which may have lost it by itself."""
        response = self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, tries=_TRIES)
        if not response.is_success and response.status_code != _GONE:
            raise ModelError(f"{self._url} does not unload {name}: {_reason(response)}")

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, tries: int = 1
    ) -> httpx.Response:
        """The server's response, asked again where it is not there or in trouble."""
        while True:
            tries -= 1
            try:
                response = self._http.request(method, path, json=body)
            except httpx.RequestError as error:
                if not tries:
                    raise ModelError(
                        f"{self._url}{path}: no answer ({error or type(error).__name__}); start a "
                        f"server with {self._command()}, or set vllm_url"
                    ) from error
            else:
                if not tries or not response.is_server_error:
                    return response
            time.sleep(_PAUSE)

    def _part(self, response: httpx.Response, key: str) -> list[dict[str, Any]]:
        try:
            return response.json()[key]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{self._url} is no vLLM server; set vllm_url to one") from error

    # -- what must agree -------------------------------------------------------------------------

    def _refuse_other_base(self, roots: Sequence[str], base: str) -> None:
        if not any(
            root == self._base or (Path(root).is_dir() and fingerprint(BaseSpec(root)) == base)
            for root in roots
        ):
            raise ModelError(
                f"{self._url} serves {', '.join(roots)} and the policy's base is {self._base}; "
                f"start it with {self._command()}"
            )

    @property
    def _base(self) -> str:
        return str(cast("PreTrainedModel", self._policy.get_base_model()).name_or_path)

    def _command(self) -> str:
        return (
            f"`VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve {self._base} --enable-lora "
            f"--max-lora-rank {self._rank} --logprobs-mode processed_logprobs`"
        )


def request_seed(sampling: Sampling, number: int) -> int | None:
    """The run's seed and the response's number in one, so that no two responses share a seed."""
    if sampling.seed is None:
        return None
    return (sampling.seed % 2**31) << 32 | (sampling.first + number) % 2**32


def _rank(policy: PeftModel) -> int:
    """The --max-lora-rank that the policy's adapter needs."""
    config = policy.peft_config[ADAPTER_OF["policy"]]
    if not isinstance(config, LoraConfig) or config.use_dora:
        raise ModelError(
            "vLLM adds LoRA to a base and no other kind of adapter; take a policy of tuning: lora, "
            "qlora or rslora, or set rollout_engine: transformers"
        )
    rank = max([config.r, *cast("dict[str, int]", config.rank_pattern).values()])
    return next((r for r in _RANKS if r >= rank), rank)


def _reason(response: httpx.Response) -> str:
    """What the server says went wrong, in whichever of its three shapes."""
    try:
        body = response.json()
    except ValueError:
        return response.text.strip() or response.reason_phrase
    error = body.get("error", body)
    return str(error.get("message") or error.get("detail") or error)
