"""Continuous batching for a small Qwen3 on one device: requests in, tokens with log-probs out.

Each request owns a slot of `SlotCache` and computes only what that does not hold yet. One `step`:

1. place: waiting requests get slots, with the longest prefix that any slot has.
2. read: every request reads what is not in its slot yet, in one pass for all: one chunk of a prompt, or the token that
   was sampled last. Chunks, so that a long prompt neither needs a large mask nor starves the others for long.
3. sample: whoever has nothing unread left gets its next token, and may end with it.

Knows only token ids. Not thread-safe: one thread calls `admit`, `step` and the rest.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch

from slime_tau2.errors import ConfigError
from slime_tau2.files import one_line
from slime_tau2.local.causal_lm import CausalLM
from slime_tau2.local.sampling import SamplingParams, sample, uniform
from slime_tau2.local.slots import ANOTHER, ATTENTION, SlotCache

CHUNK = 512  # tokens of a prompt that are read at a time
MIN_CAPACITY = 512  # tokens of a slot, until a request needs more


@dataclass(kw_only=True)
class Request:
    """One completion under way. `finish` is empty until it ends: stop, length or abort.

    `log_probs` has one entry per id of `output_ids`; `cached_tokens` of the input were in a slot already.
    """

    rid: str
    input_ids: list[int]
    params: SamplingParams
    output_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    finish: str = ""
    cached_tokens: int = 0


class Engine:
    """Owns the model, and sets how its attention is computed.

    Args:
        token_budget: bounds the store of keys and values: slots times capacity, in tokens.

    Raises:
        ConfigError: it is no decoder with full attention in every layer, as Qwen3 is.
    """

    def __init__(self, model: CausalLM, eos: int, max_slots: int = 64, token_budget: int = 262_144):
        model.eval()
        model.set_attn_implementation(ATTENTION)
        self.model = model
        self.eos = eos
        self.device = model.device
        self.config = model.config
        self.context_length = model.config.max_position_embeddings
        self.waiting: deque[Request] = deque()
        self.near_ties = 0
        self.slots = SlotCache(model, max_slots, token_budget, MIN_CAPACITY)
        self._owner: list[Request | None] = [None] * len(self.slots)
        self._try_out()

    @torch.inference_mode()
    def _try_out(self) -> None:
        """Read two ids, so that a model which will not do is refused here and not at every request."""
        try:
            self._forward({0: [0, 0]})
        except ConfigError:
            raise
        except Exception as error:  # whatever another architecture stumbles over
            raise ConfigError(
                f"the local engine cannot read a {type(self.model).__name__} ({type(error).__name__}: "
                f"{one_line(error)}); {ANOTHER}"
            ) from error

    # --- requests ----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[Request]:
        """The requests that have a slot."""
        return [r for r in self._owner if r is not None]

    def admit(self, request: Request) -> None:
        """Queue a request.

        Raises:
            ValueError: input and `max_new_tokens` do not fit the context, or an id is outside the vocabulary.
        """
        need = len(request.input_ids) + request.params.max_new_tokens
        if not request.input_ids or need > self.context_length:
            raise ValueError(
                f"Requested token count exceeds the model's maximum context length of {self.context_length} tokens: "
                f"{len(request.input_ids)} input tokens and {request.params.max_new_tokens} new ones"
            )
        if min(request.input_ids) < 0 or max(request.input_ids) >= self.config.vocab_size:
            raise ValueError(f"input_ids must lie in [0, {self.config.vocab_size})")
        self.waiting.append(request)

    def _place(self) -> None:
        """Give waiting requests slots, first come first served; grows the store only when it is idle enough to."""
        while self.waiting:
            head = self.waiting[0]
            need = len(head.input_ids) + head.params.max_new_tokens
            if need > self.slots.capacity:
                if self.running:
                    return
                power_of_two = 1 << (need - 1).bit_length()
                self.slots.allocate(min(self.context_length, power_of_two))
                self._owner = [None] * len(self.slots)
            free = [s for s, owner in enumerate(self._owner) if owner is None]
            if not free:
                return
            request = self.waiting.popleft()
            slot = self.slots.take(request.input_ids, free)
            self._owner[slot] = request
            request.cached_tokens = int(self.slots.held[slot])

    # --- compute -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """One round (see the module's head). Returns what ended."""
        self._place()
        batch = [(s, r) for s, r in enumerate(self._owner) if r is not None]
        return self._advance(batch) if batch else []

    def _unread(self, slot: int, request: Request) -> int:
        """How many of a request's ids are not in its slot yet."""
        return len(request.input_ids) + len(request.output_ids) - int(self.slots.held[slot])

    def _next_ids(self, slot: int, request: Request) -> list[int]:
        """The ids to read next: a chunk of the prompt, or what was sampled last."""
        held, prompt = int(self.slots.held[slot]), len(request.input_ids)
        if held < prompt:
            return request.input_ids[held : min(held + CHUNK, prompt)]
        return request.output_ids[held - prompt :]

    def _advance(self, batch: list[tuple[int, Request]]) -> list[Request]:
        """Read the next ids of each (slot, request), sample where that was the last of them. Returns what ended."""
        news = {slot: self._next_ids(slot, request) for slot, request in batch}
        logits = self._forward(news)  # [rows, vocabulary]
        for slot, new in news.items():
            self.slots.extend(slot, new)

        sampling = [row for row, (slot, request) in enumerate(batch) if self._unread(slot, request) == 0]
        if not sampling:
            return []
        requests = [batch[row][1] for row in sampling]
        draws = [uniform(r.params.sampling_seed, len(r.output_ids)) for r in requests]
        ids, log_probs, ties = sample(logits[sampling], [r.params for r in requests], draws)
        self.near_ties += ties

        done: list[Request] = []
        for row, token, log_prob in zip(sampling, ids, log_probs):
            slot, request = batch[row]
            request.output_ids.append(token)
            request.log_probs.append(log_prob)
            request.finish = self._finish(request)
            if request.finish:
                self._owner[slot] = None
                done.append(request)
        return done

    def _finish(self, request: Request) -> str:
        """Why a request ends with the token it has just got; empty where it goes on."""
        token, params = request.output_ids[-1], request.params
        if token in params.stop_token_ids or (token == self.eos and not params.ignore_eos):
            return "stop"
        return "length" if len(request.output_ids) >= params.max_new_tokens else ""

    def _forward(self, news: dict[int, list[int]]) -> torch.Tensor:
        """Logits after each slot's last new id, [slots, vocabulary]. T ids are read, slot after slot.

        transformers' own `forward` is not called: it takes one past length for the whole batch, where each slot here
        has its own. It also computes logits at the same positions of all rows, where each slot here ends elsewhere.
        The layers are the model's own, so that the arithmetic is too.
        """
        model, device = self.model.model, self.device
        self.slots.aim({slot: len(new) for slot, new in news.items()})
        ids = torch.tensor([[i for new in news.values() for i in new]], device=device)  # [1, T]
        hidden = model.embed_tokens(ids)  # [1, T, hidden]

        # each layer writes its new keys and values to the slots, and attends to all that they hold
        rotary = model.rotary_emb(hidden, self.slots.positions)
        for layer in model.layers:
            hidden = layer(
                hidden,
                position_ids=self.slots.positions,
                past_key_values=self.slots,
                position_embeddings=rotary,
                slots=self.slots,
            )
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # as some versions of transformers return it

        # the vocabulary at the last new id of each slot
        ends = torch.tensor([len(new) for new in news.values()], device=device).cumsum(0) - 1
        logits: torch.Tensor = self.model.lm_head(model.norm(hidden[0, ends]))
        return logits.float()

    # --- control -----------------------------------------------------------------------------------------------------

    def abort(self, rid: str | None = None) -> list[Request]:
        """End one request, or (None) all, as aborted; they keep what they have sampled."""
        hit = [r for r in (*self.waiting, *self.running) if rid is None or r.rid == rid]
        for request in hit:
            request.finish = "abort"
        self.waiting = deque(r for r in self.waiting if r not in hit)
        self._owner = [None if r in hit else r for r in self._owner]
        return hit

    def flush(self) -> None:
        """Forget all warm slots (after a change of weights)."""
        self.slots.flush()
