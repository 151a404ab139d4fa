"""Language models: what comes of their training, and text that goes on with a prompt."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from spikenet.cli.screen import described, say
from spikenet.errors import ArgumentError, RunError


def is_text(data: Any) -> bool:
    """Whether a data module holds texts, which are not evaluated as recordings are."""
    from spikenet.data import TEXTS

    return isinstance(data, tuple(TEXTS.values()))


def evaluate_text(run: Any) -> float:
    """Bits per character of the validation and test part into ``results.json``; returns those of the test part."""
    from spikenet.cache import write_atomically
    from spikenet.training import bits_per_token

    parts = run.data.parts
    found = {name: bits_per_token(run.model, getattr(parts, name)) for name in ("val", "test")}
    results = {f"{name}_bits_per_token": bits for name, bits in found.items()}
    write_atomically(run.folder.results, (json.dumps(results, indent=2) + "\n").encode())
    say(f"\n{run.data.name}, seed {run.seed}")
    say(f"bits per character: {found['test']:.3f} on the test part, {found['val']:.3f} on the validation part")
    return found["test"]


def text_work(run: Any) -> Any:
    """Operations of the network on the test part, a piece a sample."""
    import torch

    from spikenet.energy import count

    with torch.inference_mode(), count(run.model.eval()) as work:
        for tokens, _ in run.data.test_dataloader():
            run.model(tokens)
    return work


def generate(words: Sequence[str], reopen: Any) -> int:
    """Write on: ``spikenet generate RUN_FOLDER --prompt "And David"`` draws text from a trained language model.

    One character at a time, with a state that does not grow. ``--temperature`` below 1 keeps to likely characters, 0 to
    the likeliest; ``--seed`` chooses among the texts.
    """
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        raise ArgumentError("the run folder comes first: spikenet generate RUN_FOLDER --prompt TEXT.")
    parser = argparse.ArgumentParser("spikenet generate", description=described(generate), exit_on_error=False)
    parser.add_argument("run", help="the folder of a finished run on a text")
    parser.add_argument("--prompt", default="And ", help="how the text begins")
    parser.add_argument("--count", type=int, default=400, help="characters to draw")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 and up (default: 0.8)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    options = parser.parse_args(list(words))
    import torch

    from spikenet.models import generate as draw

    run = reopen("generate", [options.run])
    if not is_text(run.data):
        raise RunError(f"{options.run} was trained on {run.data.name}; text comes from runs on a text.")
    if not options.prompt:
        raise ArgumentError("--prompt: at least one character is needed.")
    torch.manual_seed(options.seed)
    drawn = draw(run.model, run.data.encode(options.prompt), options.count, options.temperature)
    say(options.prompt + run.data.decode(drawn))
    return 0
