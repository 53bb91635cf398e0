# SPDX-License-Identifier: Apache-2.0
"""Writes expected.json: what PyTorch answers greedily, prompt by prompt, in float32 from the stored weights."""

import json

import torch

from settings import EXPECTED_FILE

MAX_NEW_TOKENS = 40
WIDTH = 120


@torch.no_grad()
def _greedy(model, ids):
    """Returns (new ids, log probabilities, margins); a margin is the best logit minus the second."""
    out = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = out.sequences[0, len(ids) :].tolist()
    logits = torch.stack([step[0].float() for step in out.logits])  # [steps, vocabulary]
    chosen = torch.log_softmax(logits, dim=-1)[torch.arange(len(new)), torch.tensor(new)]
    top = logits.topk(2, dim=-1).values
    return new, chosen.tolist(), (top[:, 0] - top[:, 1]).tolist()


def cases(model, tokenizer, adapter, questions):
    """One case for each question as bare text and as a chat message, with the adapter that is selected in the model."""
    result = []
    for question in questions:
        messages = [{"role": "user", "content": question}]
        prompts = {
            "text": tokenizer.encode(question),
            "chat": tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False),
        }
        for kind, ids in prompts.items():
            new, logprobs, margins = _greedy(model, ids)
            result.append(
                {
                    "adapter": adapter,
                    "prompt": question,
                    "kind": kind,
                    "prompt_ids": ids,
                    "ids": new,
                    "text": tokenizer.decode(new, skip_special_tokens=True),
                    "finish": "eos" if new[-1] == tokenizer.eos_token_id else "length",
                    "margin": round(min(margins), 4),
                    "logprobs": [round(value, 5) + 0.0 for value in logprobs],
                }
            )
    return result


def _numbers(values, indent):
    """An array of numbers as the project's formatter lays it out: on one line, or filled up to the width."""
    texts = [json.dumps(value) for value in values]
    pad = " " * (indent + 2)
    lines, line = [], pad
    for i, text in enumerate(texts):
        piece = text + ("," if i + 1 < len(texts) else "")
        if line != pad and len(line) + 1 + len(piece) > WIDTH:
            lines.append(line)
            line = pad
        line += piece if line == pad else " " + piece
    return "[\n" + "\n".join([*lines, line]) + "\n" + " " * indent + "]"


def _value(key, value, indent):
    flat = json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and indent + len(f'"{key}": ') + len(flat) + 1 > WIDTH:
        return _numbers(value, indent)
    return flat


def write_cases(all_cases):
    """`margin` is the smallest distance between the best and the second logit over the steps of a case."""
    blocks = []
    for case in all_cases:
        fields = ",\n".join(f'      "{key}": {_value(key, value, 6)}' for key, value in case.items())
        blocks.append("    {\n" + fields + "\n    }")
    head = f'  "max_new_tokens": {MAX_NEW_TOKENS},\n  "dtype": "float32",\n'
    text = "{\n" + head + '  "cases": [\n' + ",\n".join(blocks) + "\n  ]\n}\n"
    json.loads(text)
    EXPECTED_FILE.write_text(text, encoding="utf-8")
