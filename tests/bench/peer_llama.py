"""A typical llama-cpp-python script: `python -m tests.bench.peer_llama MODEL THREADS CONTEXT`.

The script reads requests from standard input as lines of JSON and answers each with a line of JSON.
"""

import json
import os
import sys
import time
from typing import Any

from llama_cpp import Llama, LlamaGrammar


def main() -> None:
    model, threads, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keep the library's own output out of the answers
    llama = Llama(model, n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False)
    for line in sys.stdin:
        request = json.loads(line)
        # "uncached" imitates a program that serves more than one conversation.
        if request.pop("uncached"):
            llama.reset()
        answers.write(json.dumps(_time_reply(llama, **request)) + "\n")


def _time_reply(llama: Llama, *, low_level: bool, **request: Any) -> dict[str, Any]:
    started = time.perf_counter()
    first, count = 0.0, 0
    for _ in _token_texts(llama, **request) if low_level else _completion_texts(llama, **request):
        first = first or time.perf_counter() - started
        count += 1
    return {"first": first, "seconds": time.perf_counter() - started, "tokens": count}


def _completion_texts(llama: Llama, prompt: str, grammar: str, **sampling: Any) -> Any:
    """Yield the text of each non-empty chunk from `create_completion`; each chunk is one token."""
    compiled = LlamaGrammar.from_string(grammar, verbose=False) if grammar else None
    for chunk in llama.create_completion(prompt, grammar=compiled, stream=True, **sampling):
        if text := chunk["choices"][0]["text"]:
            yield text


def _token_texts(
    llama: Llama, prompt: str, grammar: str, max_tokens: int, seed: int, **sampling: Any
) -> Any:
    """Yield each token from `generate` as bytes; `generate` is the leanest loop in the library."""
    llama.set_seed(seed)
    sampling["temp"] = sampling.pop("temperature")
    tokens = llama.tokenize(prompt.encode(), add_bos=False)
    for count, token in enumerate(llama.generate(tokens, **sampling), 1):
        if token == llama.token_eos():
            return
        yield llama.detokenize([token])
        if count == max_tokens:
            return


if __name__ == "__main__":
    main()
