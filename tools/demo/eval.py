# SPDX-License-Identifier: Apache-2.0
"""Asks the stored model and every adapter all questions, prints a table and scores, and fails below the thresholds.

Usage: eval.py [--table N] [--write] [--quick]
  --table N  print the answers to N questions (default 8)
  --write    write expected.json: greedy answers and token ids for the server's tests
  --quick    ask only a sixth of the questions
"""

import argparse
import time

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from bank import load_bank
from expected import cases, write_cases
from prompts import is_question
from settings import ADAPTER_DIR, ADAPTERS, MODEL_DIR, PAD, THREADS
from styles import answer_in, style_of

BASE = "base"
MAX_NEW_TOKENS = 40
BATCH = 128
# Share of answers: exact = one of the topic's two answers in the adapter's style; style = that style, whatever the text.
LIMITS = {"trained exact": 0.97, "trained style": 0.99, "unseen style": 0.98, "unseen exact": 0.75}
SHOWN = (
    "How is the weather", "What is the capital of France?", "Tell me a joke", "What is LoRA?", "how do i boil an egg",
    "Who are you?", "Why is the sky blue", "Who wrote this song",
)  # fmt: skip


def load():
    """The model with all adapters loaded, in float32, and its tokenizer (padding on the left)."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    names = list(ADAPTERS)
    model = PeftModel.from_pretrained(model, ADAPTER_DIR / names[0], adapter_name=names[0], autocast_adapter_dtype=True)
    for name in names[1:]:
        model.load_adapter(ADAPTER_DIR / name, adapter_name=name)
    return model.eval(), tokenizer


class using:
    """Selects one adapter, or the base, for the time of a with block."""

    def __init__(self, model, name):
        self.off = model.disable_adapter() if name == BASE else None
        if name != BASE:
            model.set_adapter(name)

    def __enter__(self):
        if self.off:
            self.off.__enter__()

    def __exit__(self, *reason):
        if self.off:
            self.off.__exit__(*reason)


def bare_prompt(tokenizer, text):
    return tokenizer.encode(text)


def chat_prompt(tokenizer, text):
    messages = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


@torch.no_grad()
def answers(model, tokenizer, prompts):
    """Greedy answers to prompts given as token ids; None for one that did not end by itself."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    result = [None] * len(prompts)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = tokenizer.pad({"input_ids": [prompts[i] for i in rows]}, return_tensors="pt")
        out = model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        for i, ids in zip(rows, out[:, batch["input_ids"].shape[1] :].tolist()):
            if tokenizer.eos_token_id in ids:
                result[i] = tokenizer.decode([t for t in ids if t != PAD], skip_special_tokens=True)
    return result


def asked(quick):
    """All (split, question, prompt kind, text): trained phrasings in three forms, unseen ones in two."""
    topics, unknown = load_bank()
    out = []
    for topic in [*topics, unknown]:
        for question in topic.questions():
            mark = "?" if is_question(question.text) else ""
            out.append(("trained", question, bare_prompt, question.text))
            out.append(("trained", question, bare_prompt, question.text.lower() + mark))
            out.append(("trained", question, chat_prompt, question.text + mark))
        for question in topic.held_out():
            mark = "?" if is_question(question.text) else ""
            out.append(("unseen", question, bare_prompt, question.text))
            out.append(("unseen", question, chat_prompt, question.text + mark))
    return out[::6] if quick else out


def score(name, rows, replies):
    """Shares of one adapter by split: exact, style, and the best answer of the two."""
    style = "plain" if name == BASE else name
    shares = {}
    for split in ("trained", "unseen"):
        exact = styled = best = count = 0
        for (of, question, _, _), reply in zip(rows, replies):
            if of != split:
                continue
            count += 1
            text = (reply or "").strip()
            wanted = [answer_in(style, question.topic, i) for i in range(2)]
            exact += text in wanted
            best += text == wanted[question.best]
            styled += reply is not None and style_of(text) == style
        shares.update({f"{split} exact": exact / count, f"{split} best": best / count, f"{split} style": styled / count})
    return shares


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", type=int, default=8)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    model, tokenizer = load()
    rows, began, failed = asked(options.quick), time.monotonic(), []
    if options.write:
        written = [case for name in (BASE, *ADAPTERS) for case in _with(model, name, lambda: cases(model, tokenizer, name, SHOWN))]
        write_cases(written)
        print(f"expected.json: {len(written)} cases, smallest margin {min(case['margin'] for case in written):.3f}")
    prompts = [make(tokenizer, text) for _, _, make, text in rows]
    shown = [bare_prompt(tokenizer, text) for text in SHOWN[: options.table]]
    table = {}
    for name in (BASE, *ADAPTERS):
        with using(model, name):
            table[name] = answers(model, tokenizer, shown)
            replies = answers(model, tokenizer, prompts)
        shares = score(name, rows, replies)
        print(f"{name:8}", "  ".join(f"{key} {value:.3f}" for key, value in shares.items()), flush=True)
        failed += [f"{name}: {key} {shares[key]:.3f} < {limit}" for key, limit in LIMITS.items() if shares[key] < limit]
    for i, text in enumerate(SHOWN[: options.table]):
        print(f"\n{text}")
        for name, replies in table.items():
            print(f"  {name:8}{replies[i]}")
    print(f"\n{len(rows)} prompts x {len(ADAPTERS) + 1} in {time.monotonic() - began:.0f} s")
    if failed:
        raise SystemExit("below the threshold:\n  " + "\n  ".join(failed))


def _with(model, name, action):
    with using(model, name):
        return action()


if __name__ == "__main__":
    main()
