"""The stages of `train.py`, each from files to files."""

from argparse import Namespace

import torch

from .corpus import Document, read_documents
from .distil import Lessons, distil, hidden_states
from .evaluate import EARLY, LOOKAHEAD, acceptance, difference_from_transformers, held_out_loss
from .export import export, load_exported
from .generate import LENGTH, generate
from .model import DRAFT, TARGET, Llama
from .pretrain import pretrain
from .progress import say
from .prompts import choose_prompts, read_prompts, write_prompts
from .vocabulary import load_tokenizer, train_tokenizer
from .windows import WindowSampler, encode_stream

CORPUS_ROWS = 4096  # windows of the corpus that the draft learns from, beside the generated text


def split_documents() -> tuple[list[Document], list[Document]]:
    """Training files and held-out files."""
    documents = read_documents()
    return [one for one in documents if not one.held_out], [one for one in documents if one.held_out]


def training_sampler(arguments: Namespace, seed: int) -> WindowSampler:
    """Windows of the training files."""
    words = load_tokenizer(arguments.work / "tokenizer")
    texts = [one.text for one in split_documents()[0]]
    stream = encode_stream(words, texts)
    sampler = WindowSampler(stream, words, seed)
    say(f"{len(texts)} files, {len(stream)} tokens, {len(sampler.definitions)} definitions")
    return sampler


def tokenizer(arguments: Namespace) -> None:
    """Train the tokenizer unless the work folder has one."""
    folder = arguments.work / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        train_tokenizer(one.text for one in split_documents()[0]).save_pretrained(str(folder))


def target(arguments: Namespace) -> None:
    """Train the target and export it."""
    model = pretrain(training_sampler(arguments, 1), arguments.target_minutes, arguments.work / "target.pt")
    export(model.state_dict(), TARGET, load_tokenizer(arguments.work / "tokenizer"), arguments.out / "target")


def text(arguments: Namespace) -> None:
    """Let the exported target write text, and note its hidden states on that and on the corpus."""
    model = load_exported(arguments.out / "target", TARGET)
    sampler = training_sampler(arguments, 2)
    rows, states = generate(model, sampler, arguments.text_minutes)
    corpus = sampler.draw(CORPUS_ROWS, LENGTH)
    torch.save(
        {
            "rows": torch.cat([rows, corpus]),
            "states": torch.cat([states, hidden_states(model, corpus)]),
            "generated": len(rows),
        },
        arguments.work / "lessons.pt",
    )


def draft(arguments: Namespace) -> None:
    """Distil the exported target into the draft and export that."""
    model = load_exported(arguments.out / "target", TARGET)
    lessons = Lessons(**torch.load(arguments.work / "lessons.pt", weights_only=True))
    small = distil(model, lessons, arguments.draft_minutes, arguments.work / "draft.pt")
    export(small.state_dict(), DRAFT, load_tokenizer(arguments.work / "tokenizer"), arguments.out / "draft")


def prompts(arguments: Namespace) -> None:
    """Choose the held-out prompts."""
    training, held_out = split_documents()
    words = load_tokenizer(arguments.work / "tokenizer")
    write_prompts(choose_prompts(held_out, training, words), arguments.out / "prompts.jsonl")


def evaluate(arguments: Namespace) -> None:
    """Print the numbers of the README."""
    torch.set_num_threads(2)
    words = load_tokenizer(arguments.out / "target")
    held_out = [one.text for one in split_documents()[1]]
    stream = encode_stream(words, held_out)
    size = sum(len(one.encode()) for one in held_out)
    chosen = read_prompts(arguments.out / "prompts.jsonl")
    pair: list[Llama] = []
    for name, shape in (("target", TARGET), ("draft", DRAFT)):
        model = load_exported(arguments.out / name, shape, torch.float32)
        apart = difference_from_transformers(model, arguments.out / name, chosen[:5])
        parameters = sum(one.numel() for one in model.parameters())
        quick = load_exported(arguments.out / name, shape)
        nats, bits = held_out_loss(quick, stream, size)
        say(
            f"{name}: {parameters} parameters, {nats:.4f} nats/token, {bits:.4f} bits/byte, "
            f"logits within {apart:.1e} of transformers"
        )
        pair.append(model)
    found = acceptance(pair[0], pair[1], chosen, words)
    say(
        f"acceptance {found.per_token:.4f} per token ({found.early:.4f} over the first {EARLY}), "
        f"{found.tokens_per_round:.3f} tokens a round (K = {LOOKAHEAD})"
    )
    (arguments.work / "completions.txt").write_text("\n\n=====\n".join(found.texts), encoding="utf-8")
