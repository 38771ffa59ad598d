"""llama.cpp through the low-level interface of llama-cpp-python, wrapped in Python types.

Importing this module loads the native library, so only the engine's process imports the module.
"""

import ctypes
import os
from collections import deque
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from prepserver.engines.hardware import usable_cores, usable_memory
from prepserver.engines.llama.options import CacheType, LlamaOptions
from prepserver.engines.thoughts import CLOSING_MARKS, THOUGHT_MARKS
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["MAX_PREFILL_TOKENS", "BatchTokens", "LlamaContext"]

MAX_PREFILL_TOKENS = 256
"""Maximum number of prompt tokens in one batch."""
MAX_DEFAULT_SLOTS = 8
"""Maximum number of KV slots if the option `parallel` is 0."""
MAX_SLOTS = 64
"""Maximum number of KV slots; llama.cpp's own limit is 256."""
LOG_LEVEL_WARN, LOG_LEVEL_ERROR = 3, 4
"""Values of GGML_LOG_LEVEL_WARN and GGML_LOG_LEVEL_ERROR in llama.cpp."""
CACHE_TYPES = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q4_0": lib.GGML_TYPE_Q4_0,
}
CACHE_BYTES_PER_VALUE = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}


class BatchTokens(Struct, frozen=True):
    """Consecutive tokens of one slot in a batch, which may also contain tokens of other slots."""

    slot: int
    position: int
    """Position of the first token in the slot's sequence."""
    tokens: Sequence[int]
    wants_logits: bool
    """True if the logits after the last of these tokens are needed."""


class LlamaContext:
    """Loaded model with its vocabulary and a KV cache that is divided into slots.

    Each slot has a buffer of its own (`kv_unified` is off). Therefore a token attends only to the
    cells of its own conversation: no masked cells of other conversations have to be skipped, and
    the result does not depend on the layout of a shared buffer.
    """

    def __init__(self, options: LlamaOptions) -> None:
        """Load the model and allocate the cache.

        Raises InferenceError, code `model_not_loaded`, if llama.cpp cannot read the file or there
        is not enough memory.
        """
        self.name = Path(options.path).stem
        self._log_errors: deque[str] = deque(maxlen=3)
        self._log_callback = lib.llama_log_callback(self._on_log)
        lib.llama_log_set(self._log_callback, None)
        lib.llama_backend_init()
        self.uses_gpu = uses_gpu = (
            bool(lib.llama_supports_gpu_offload()) and options.n_gpu_layers != 0
        )
        model_params = lib.llama_model_default_params()
        model_params.n_gpu_layers = options.n_gpu_layers if uses_gpu else 0
        if not uses_gpu:
            # Weights that llama.cpp rearranges would otherwise also stay in memory as part of the
            # mapped file.
            model_params.load_mode = lib.LLAMA_LOAD_MODE_NONE
        # llama.cpp's AMX kernels crash on some processors (ggml-org/llama.cpp#20824). A build with
        # these kernels keeps them out of use by not repacking the weights.
        model_params.use_extra_bufts = b"AMX_INT8 = 1" not in lib.llama_print_system_info()
        self._model = lib.llama_model_load_from_file(os.fsencode(options.path), model_params)
        if not self._model:
            raise self._load_error(
                f"llama.cpp cannot read the model file {options.path}",
                "Fetch the model again, or choose another one.",
            )
        self.vocabulary = lib.llama_model_get_vocab(self._model)
        self.n_vocab = int(lib.llama_vocab_n_tokens(self.vocabulary))
        self.parameters = int(lib.llama_model_n_params(self._model))
        n_ctx_train = int(lib.llama_model_n_ctx_train(self._model))
        self.n_ctx = min(options.n_ctx, n_ctx_train) if n_ctx_train > 0 else options.n_ctx
        self.n_slots = min(MAX_SLOTS, options.parallel) or self._default_slots(options.cache_type)
        context_params = self._context_params(options, uses_gpu=uses_gpu)
        self.flash_attention = int(context_params.flash_attn_type)
        self.context = lib.llama_init_from_model(self._model, context_params)
        if not self.context:
            raise self._load_error(
                f"Not enough memory for the KV cache (slots: {self.n_slots}, tokens per slot: "
                f"{self.n_ctx})",
                "Lower `parallel` or `context`.",
            )
        self._kv_cache = lib.llama_get_memory(self.context)
        self._batch = lib.llama_batch_init(MAX_PREFILL_TOKENS + self.n_slots, 0, 1)
        self._piece_buffer = ctypes.create_string_buffer(256)
        self.can_truncate = not (
            lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        )
        """False if the model's cache does not support removing the end of a sequence."""
        self.unspoken_tokens = self._find_unspoken_tokens()
        """Ids of the tokens that do not belong in a reply: the marks of thoughts, and all control
        tokens except those that end the reply."""

    def _context_params(self, options: LlamaOptions, *, uses_gpu: bool) -> Any:
        quantised = options.cache_type not in ("f32", "f16")
        flash_attention = {
            "on": lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
            "off": lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
            "auto": lib.LLAMA_FLASH_ATTN_TYPE_AUTO
            if uses_gpu or quantised
            else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }
        params = lib.llama_context_default_params()
        params.n_ctx = self.n_ctx * self.n_slots
        params.n_batch = params.n_ubatch = MAX_PREFILL_TOKENS + self.n_slots
        params.n_seq_max = self.n_slots
        params.n_outputs_max = self.n_slots
        params.n_threads = params.n_threads_batch = options.n_threads or usable_cores()
        params.flash_attn_type = flash_attention[options.flash_attention]
        params.type_k = params.type_v = CACHE_TYPES[options.cache_type]
        params.kv_unified = False
        return params

    def _default_slots(self, cache_type: CacheType) -> int:
        """Return the number of slots that fit into an eighth of the usable memory, at least 1 and
        at most MAX_DEFAULT_SLOTS."""
        n_head = max(1, int(lib.llama_model_n_head(self._model)))
        n_embd_kv = int(lib.llama_model_n_embd(self._model)) * (
            int(lib.llama_model_n_head_kv(self._model)) / n_head
        )
        n_layer = int(lib.llama_model_n_layer(self._model))
        token_bytes = 2 * n_layer * n_embd_kv * CACHE_BYTES_PER_VALUE[cache_type]
        slot_bytes = max(1.0, token_bytes * self.n_ctx)
        return max(1, min(MAX_DEFAULT_SLOTS, int(usable_memory() / 8 / slot_bytes)))

    # --- Vocabulary ---------------------------------------------------------------------------

    @property
    def chat_template(self) -> str:
        """Source of the model's chat template; empty if the file has none."""
        source = lib.llama_model_chat_template(self._model, None)
        return source.decode("utf-8", "replace") if source else ""

    def tokenize(self, text: str, *, parse_control: bool) -> list[int]:
        """Return the tokens of a text.

        With `parse_control`, the text of a control token becomes that token; otherwise the text
        becomes ordinary tokens. A begin token is added if the model expects one, unless the text
        already starts with a parsed begin token.
        """
        data = text.encode()
        add_bos = not (parse_control and self.bos_text and text.startswith(self.bos_text))
        size = len(data) + 8
        while True:
            tokens = (lib.llama_token * size)()
            count = int(
                lib.llama_tokenize(
                    self.vocabulary, data, len(data), tokens, size, add_bos, parse_control
                )
            )
            if count >= 0:
                return list(tokens[:count])
            size = -count

    def token_to_piece(self, token: int, *, render_control: bool = False) -> bytes:
        """Return a token's bytes, which may be part of a UTF-8 character.

        The result is empty for a control token unless `render_control` is True.
        """
        while True:
            size = len(self._piece_buffer)
            count = int(
                lib.llama_token_to_piece(
                    self.vocabulary, token, self._piece_buffer, size, 0, render_control
                )
            )
            if count >= 0:
                return self._piece_buffer.raw[:count]
            self._piece_buffer = ctypes.create_string_buffer(-count)

    def is_end_of_generation(self, token: int) -> bool:
        """Return True if `token` marks the end of a reply."""
        return bool(lib.llama_vocab_is_eog(self.vocabulary, token))

    @property
    def bos_text(self) -> str:
        """Text of the begin token; empty if the model has no begin token."""
        return self._token_text(lib.llama_vocab_bos(self.vocabulary))

    @property
    def eos_text(self) -> str:
        """Text of the end token; empty if the model has no end token."""
        return self._token_text(lib.llama_vocab_eos(self.vocabulary))

    def control_token_texts(self) -> list[str]:
        return [
            self._token_text(token)
            for token in range(self.n_vocab)
            if lib.llama_vocab_is_control(self.vocabulary, token)
        ]

    def _find_unspoken_tokens(self) -> list[int]:
        marks = {*THOUGHT_MARKS, *CLOSING_MARKS}
        return [
            token
            for token in range(self.n_vocab)
            if (
                lib.llama_vocab_is_control(self.vocabulary, token)
                or lib.llama_vocab_get_text(self.vocabulary, token)
                .decode("utf-8", "replace")
                .lower()
                in marks
            )
            and not self.is_end_of_generation(token)
        ]

    def _token_text(self, token: int) -> str:
        if token < 0:
            return ""
        return self.token_to_piece(token, render_control=True).decode("utf-8", "replace")

    # --- KV cache -----------------------------------------------------------------------------

    def copy_slot(self, source: int, target: int) -> None:
        """Replace the content of the target slot with that of the source slot."""
        self.clear_slot(target)
        lib.llama_memory_seq_cp(self._kv_cache, source, target, -1, -1)

    def truncate_slot(self, slot: int, length: int) -> bool:
        """Remove all tokens of a slot after the first `length`.

        Return False, with the whole slot cleared, if the model's cache does not support removing
        part of a sequence.
        """
        if lib.llama_memory_seq_rm(self._kv_cache, slot, length, -1):
            return True
        self.clear_slot(slot)
        return False

    def clear_slot(self, slot: int) -> None:
        lib.llama_memory_seq_rm(self._kv_cache, slot, -1, -1)

    def clear_cache(self) -> None:
        lib.llama_memory_clear(self._kv_cache, True)

    def save_slot(self, slot: int) -> bytes:
        """Return the KV state of a slot.

        The state is valid only for this model, build, cache type and use of flash attention.
        """
        size = int(lib.llama_state_seq_get_size(self.context, slot))
        buffer = (ctypes.c_uint8 * size)()
        written = int(lib.llama_state_seq_get_data(self.context, buffer, size, slot))
        return bytes(memoryview(buffer)[:written])

    def restore_slot(self, slot: int, state: bytes) -> bool:
        """Replace the content of a slot with a saved state.

        Return False, with the slot cleared, if llama.cpp cannot load the state.
        """
        self.clear_slot(slot)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if lib.llama_state_seq_set_data(self.context, buffer, len(state), slot):
            return True
        self.clear_slot(slot)
        return False

    # --- Inference ----------------------------------------------------------------------------

    def decode(self, parts: Sequence[BatchTokens]) -> list[int]:
        """Compute a batch of at most MAX_PREFILL_TOKENS tokens plus one token per slot.

        Return the batch index of each part's last token. If a part wants logits, the logits are
        found at this index. If llama.cpp fails, the cache is cleared and InferenceError, code
        `decode_failed`, is raised.
        """
        batch = self._batch
        n = 0
        last_indices: list[int] = []
        for part in parts:
            for position, token in enumerate(part.tokens, part.position):
                batch.token[n] = token
                batch.pos[n] = position
                batch.n_seq_id[n] = 1
                batch.seq_id[n][0] = part.slot
                batch.logits[n] = False
                n += 1
            batch.logits[n - 1] = part.wants_logits
            last_indices.append(n - 1)
        batch.n_tokens = n
        code = lib.llama_decode(self.context, batch)
        if code != 0:
            self.clear_cache()
            raise InferenceError(
                f"llama.cpp could not compute the batch (llama_decode returned {code}). Try again.",
                code=ErrorCode.DECODE_FAILED,
            )
        return last_indices

    def logits(self, index: int) -> NDArray[np.float32]:
        """Return a copy of the logits at `index` of the last batch, one for each token of the
        vocabulary."""
        pointer = lib.llama_get_logits_ith(self.context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.n_vocab,)).copy()

    @property
    def build(self) -> str:
        """Version and features of the native library. A saved KV state is valid for one build
        only."""
        return f"{version('llama-cpp-python')} {lib.llama_print_system_info().decode()}"

    # --- Logging ------------------------------------------------------------------------------

    def _on_log(self, level: int, text: bytes, _: Any) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level in (LOG_LEVEL_WARN, LOG_LEVEL_ERROR) and line:
            os.write(2, f"{line}\n".encode())
            if level == LOG_LEVEL_ERROR:
                self._log_errors.append(line)

    def _load_error(self, problem: str, advice: str) -> InferenceError:
        log = f" ({'; '.join(self._log_errors)})" if self._log_errors else ""
        return InferenceError(
            f"{problem}{log}. {advice}", code=ErrorCode.MODEL_NOT_LOADED, retryable=False
        )
