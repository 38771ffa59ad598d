"""llama.cpp through llama-cpp-python's low-level interface, with Python's types around it.

Importing this loads the native library: only the engine's own process does.
"""

import ctypes
import os
from collections import deque
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import llama_cpp.llama_cpp as lib
from msgspec import Struct

from prepserver.engines.hardware import cores, memory
from prepserver.engines.llama.options import CacheType, LlamaOptions
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["BATCH", "BatchTokens", "LlamaContext"]

BATCH = 256
"""Tokens of prompts that are computed in one go, at most."""
MOST_PARALLEL = 8
"""Sequences that are opened unless somebody asks for more."""
MOST_SEQUENCES = 64
"""llama.cpp itself would take 256."""
WARNING, ERROR = 3, 4
"""Of ggml_log_level."""
CACHE_TYPES = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q4_0": lib.GGML_TYPE_Q4_0,
}
BYTES = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Of one number in the cache."""


class BatchTokens(Struct, frozen=True):
    """Tokens of one sequence, to be computed in a batch with those of others."""

    sequence: int
    position: int
    tokens: Sequence[int]
    last: bool
    """Whether the logits after the last one are wanted."""


class LlamaContext:
    """A model, its vocabulary, and one cache that holds several sequences.

    Each sequence has a buffer of its own (`kv_unified` is off): a token attends to its own
    conversation only, not past the cells of all others, and what it comes to does not depend on
    where in a common buffer these happen to be.
    """

    def __init__(self, options: LlamaOptions) -> None:
        """Raises InferenceError, code `model_not_loaded`."""
        self._complaints: deque[str] = deque(maxlen=3)
        self._log = lib.llama_log_callback(self._hear)
        lib.llama_log_set(self._log, None)
        lib.llama_backend_init()
        self.offloads = bool(lib.llama_supports_gpu_offload()) and options.n_gpu_layers != 0
        params = lib.llama_model_default_params()
        params.n_gpu_layers = options.n_gpu_layers if self.offloads else 0
        self.model = lib.llama_model_load_from_file(os.fsencode(options.path), params)
        if not self.model:
            raise self._unloadable(f"The file {options.path} is not a model that llama.cpp reads")
        self.vocabulary = lib.llama_model_get_vocab(self.model)
        self.n_vocab = int(lib.llama_vocab_n_tokens(self.vocabulary))
        self.parameters = int(lib.llama_model_n_params(self.model))
        trained = int(lib.llama_model_n_ctx_train(self.model))
        self.n_ctx = min(options.n_ctx, trained) if trained > 0 else options.n_ctx
        self.parallel = min(MOST_SEQUENCES, options.parallel) or self._parallel(options.cache_type)
        self.threads = options.n_threads or cores()
        wanted = self._context_params(options)
        self.flash_attention = int(wanted.flash_attn_type)
        self.context = lib.llama_init_from_model(self.model, wanted)
        if not self.context:
            raise self._unloadable(
                f"There is no room for {self.parallel} contexts of {self.n_ctx} tokens"
            )
        self._memory = lib.llama_get_memory(self.context)
        self._batch = lib.llama_batch_init(BATCH + self.parallel, 0, 1)
        self._piece = ctypes.create_string_buffer(256)

    def _context_params(self, options: LlamaOptions) -> Any:
        quantised = options.cache_type not in ("f32", "f16")
        flash = {
            "on": lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
            "off": lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
            "auto": lib.LLAMA_FLASH_ATTN_TYPE_AUTO
            if self.offloads or quantised
            else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }
        params = lib.llama_context_default_params()
        params.n_ctx = self.n_ctx * self.parallel
        params.n_batch = params.n_ubatch = BATCH + self.parallel
        params.n_seq_max = self.parallel
        params.n_outputs_max = self.parallel
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = flash[options.flash_attention]
        params.type_k = params.type_v = CACHE_TYPES[options.cache_type]
        params.kv_unified = False
        return params

    def _parallel(self, cache_type: CacheType) -> int:
        """As many sequences as fit into an eighth of the memory, and at least one."""
        heads = max(1, int(lib.llama_model_n_head(self.model)))
        per_layer = int(lib.llama_model_n_embd(self.model)) * (
            int(lib.llama_model_n_head_kv(self.model)) / heads
        )
        layers = int(lib.llama_model_n_layer(self.model))
        each = max(1.0, 2 * layers * per_layer * BYTES[cache_type] * self.n_ctx)
        return max(1, min(MOST_PARALLEL, int(memory() / 8 / each)))

    # --- Vocabulary ---------------------------------------------------------------------------

    @property
    def chat_template(self) -> str:
        """Empty when the file has none."""
        source = lib.llama_model_chat_template(self.model, None)
        return source.decode("utf-8", "replace") if source else ""

    def tokenize(self, text: str, *, control: bool) -> list[int]:
        """With the beginning-of-sequence token if the model wants one and the text has none;
        `control` says whether texts of control tokens stand for them."""
        data = text.encode()
        bos = not (control and self.bos_text and text.startswith(self.bos_text))
        size = len(data) + 8
        while True:
            tokens = (lib.llama_token * size)()
            count = int(
                lib.llama_tokenize(self.vocabulary, data, len(data), tokens, size, bos, control)
            )
            if count >= 0:
                return list(tokens[:count])
            size = -count

    def piece(self, token: int, *, control: bool = False) -> bytes:
        """The bytes of a token, which may be part of a character; none for control tokens unless
        they are asked for."""
        while True:
            size = len(self._piece)
            count = int(
                lib.llama_token_to_piece(self.vocabulary, token, self._piece, size, 0, control)
            )
            if count >= 0:
                return self._piece.raw[:count]
            self._piece = ctypes.create_string_buffer(-count)

    def is_end(self, token: int) -> bool:
        """Whether the model ends its reply with this token."""
        return bool(lib.llama_vocab_is_eog(self.vocabulary, token))

    @property
    def bos_text(self) -> str:
        return self._text(lib.llama_vocab_bos(self.vocabulary))

    @property
    def eos_text(self) -> str:
        return self._text(lib.llama_vocab_eos(self.vocabulary))

    def control_texts(self) -> list[str]:
        """The texts of all control tokens."""
        return [
            self._text(token)
            for token in range(self.n_vocab)
            if lib.llama_vocab_is_control(self.vocabulary, token)
        ]

    def _text(self, token: int) -> str:
        if token < 0:
            return ""
        return self.piece(token, control=True).decode("utf-8", "replace")

    # --- Cache --------------------------------------------------------------------------------

    def copy(self, source: int, target: int) -> None:
        """Let a sequence hold what another one does."""
        self.empty(target)
        lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def cut(self, sequence: int, length: int) -> bool:
        """Forget what comes after `length` tokens. False, and all of it is forgotten, when this
        kind of model cannot go back."""
        if lib.llama_memory_seq_rm(self._memory, sequence, length, -1):
            return True
        self.empty(sequence)
        return False

    def empty(self, sequence: int) -> None:
        lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def clear(self) -> None:
        lib.llama_memory_clear(self._memory, True)

    def state(self, sequence: int) -> bytes:
        """All that is kept of a sequence, for this model, this build and this type of cache."""
        size = int(lib.llama_state_seq_get_size(self.context, sequence))
        buffer = (ctypes.c_uint8 * size)()
        written = int(lib.llama_state_seq_get_data(self.context, buffer, size, sequence))
        return bytes(memoryview(buffer)[:written])

    def set_state(self, sequence: int, state: bytes) -> bool:
        """False, and the sequence is empty, when the state does not fit."""
        self.empty(sequence)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if lib.llama_state_seq_set_data(self.context, buffer, len(state), sequence):
            return True
        self.empty(sequence)
        return False

    # --- Computing ----------------------------------------------------------------------------

    def decode(self, parts: Sequence[BatchTokens]) -> list[int]:
        """Compute at most `BATCH` tokens and one for each sequence. For each part, the row whose
        logits are those after its last token. Raises InferenceError; the cache is empty then."""
        batch = self._batch
        n = 0
        rows: list[int] = []
        for part in parts:
            for position, token in enumerate(part.tokens, part.position):
                batch.token[n] = token
                batch.pos[n] = position
                batch.n_seq_id[n] = 1
                batch.seq_id[n][0] = part.sequence
                batch.logits[n] = False
                n += 1
            batch.logits[n - 1] = part.last
            rows.append(n - 1)
        batch.n_tokens = n
        code = lib.llama_decode(self.context, batch)
        if code != 0:
            self.clear()
            raise InferenceError(
                f"The model could not compute (llama_decode gave {code}).",
                code=ErrorCode.DECODE_FAILED,
            )
        return rows

    @property
    def computes_on(self) -> str:
        """For people."""
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"GPU and {threads}" if self.offloads else threads

    @property
    def build(self) -> str:
        """Of the library: what it keeps of a sequence is for itself alone."""
        return f"{version('llama-cpp-python')} {lib.llama_print_system_info().decode()}"

    # --- What the library says ----------------------------------------------------------------

    def _hear(self, level: int, text: bytes, _: Any) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level in (WARNING, ERROR) and line:
            os.write(2, f"{line}\n".encode())
            if level == ERROR:
                self._complaints.append(line)

    def _unloadable(self, what: str) -> InferenceError:
        said = f" ({'; '.join(self._complaints)})" if self._complaints else ""
        return InferenceError(f"{what}{said}.", code=ErrorCode.MODEL_NOT_LOADED, retryable=False)
