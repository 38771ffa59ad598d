"""llama.cpp through llama-cpp-python's low-level interface, with Python's types around it.

Importing this loads the native library: only the engine's own process does.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import llama_cpp.llama_cpp as lib

from prepserver.ai.llama.options import LlamaOptions
from prepserver.errors import InferenceError

__all__ = ["Native"]

BATCH = 256
"""Tokens that are computed in one go."""
ERROR = 3
"""ggml_log_level of errors."""
WARNING = 2


class Native:
    """A model, its vocabulary, and one cache that holds several sequences."""

    def __init__(self, options: LlamaOptions) -> None:
        """Raises InferenceError, code `model_not_loaded`."""
        self._complaints: deque[str] = deque(maxlen=3)
        self._log = lib.llama_log_callback(self._hear)
        lib.llama_log_set(self._log, None)
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(
            os.fsencode(options.path), lib.llama_model_default_params()
        )
        if not self.model:
            raise self._unloadable(f"The file {options.path} is not a model that llama.cpp reads")
        self.vocabulary = lib.llama_model_get_vocab(self.model)
        self.n_vocab = int(lib.llama_vocab_n_tokens(self.vocabulary))
        self.parameters = int(lib.llama_model_n_params(self.model))
        trained = int(lib.llama_model_n_ctx_train(self.model))
        threads = options.n_threads or _processors()
        params = lib.llama_context_default_params()
        params.n_ctx = min(options.n_ctx, trained) if trained > 0 else options.n_ctx
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = options.conversations
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise self._unloadable(f"There is no room for a context of {params.n_ctx} tokens")
        self.n_ctx = int(lib.llama_n_ctx(self.context))
        self._memory = lib.llama_get_memory(self.context)
        self._batch = lib.llama_batch_init(BATCH, 0, 1)
        self._piece = ctypes.create_string_buffer(256)
        self._abort: Any = None

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
        """Let a sequence hold what another one does; the cells are shared."""
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

    # --- Computing ----------------------------------------------------------------------------

    def decode(self, tokens: Sequence[int], position: int, sequence: int) -> bool:
        """Compute at most `BATCH` tokens; the last one's logits are what is sampled next.

        False when it was aborted; the sequence is then as it was. Raises InferenceError.
        """
        batch = self._batch
        for n, token in enumerate(tokens):
            batch.token[n] = token
            batch.pos[n] = position + n
            batch.n_seq_id[n] = 1
            batch.seq_id[n][0] = sequence
            batch.logits[n] = n == len(tokens) - 1
        batch.n_tokens = len(tokens)
        code = lib.llama_decode(self.context, batch)
        if code == 0:
            return True
        if code == 2:
            self.cut(sequence, position)
            return False
        self.clear()
        raise InferenceError(
            f"The model could not compute (llama_decode gave {code}).", code="decode_failed"
        )

    def abort_when(self, wanted: Callable[[], bool] | None) -> None:
        """Ask this often during a computation whether to give it up; None: do not ask."""
        if wanted is None:
            callback = lib.ggml_abort_callback()
        else:
            ask = wanted
            callback = lib.ggml_abort_callback(lambda _: ask())
        lib.llama_set_abort_callback(self.context, callback, None)
        self._abort = callback  # native code keeps a pointer to it

    # --- What the library says ----------------------------------------------------------------

    def _hear(self, level: int, text: bytes, _: Any) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level in (WARNING, ERROR) and line:
            os.write(2, f"{line}\n".encode())
            if level == ERROR:
                self._complaints.append(line)

    def _unloadable(self, what: str) -> InferenceError:
        said = f" ({'; '.join(self._complaints)})" if self._complaints else ""
        return InferenceError(f"{what}{said}.", code="model_not_loaded", retryable=False)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
