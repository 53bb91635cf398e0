# SPDX-License-Identifier: Apache-2.0
"""Trains the base model from nothing and writes config.json, generation_config.json and model.safetensors.

Half of the samples show a style, announced by a control token that stands behind the vocabulary. The control tokens
are cut off before saving: the stored model knows how each style sounds, but no prompt can ask for one. An adapter can.
"""

import json
import math
import time

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from samples import Sampler
from settings import BASE_BATCH, BASE_RATE, BASE_STEPS, BOS, CONFIG, EOS, MODEL_DIR, PAD, SEED, THREADS, VOCAB_SIZE
from styles import STYLES

CONTROL = {style: VOCAB_SIZE + i for i, style in enumerate(STYLES[1:])}


def to_tensors(batch):
    """Pads on the right. Returns ids, attention mask and targets; only answer tokens are targets, the rest is -100."""
    width = max(len(prompt) + len(answer) for prompt, answer in batch)
    ids = torch.full((len(batch), width), PAD)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    targets = torch.full((len(batch), width), -100)
    for row, (prompt, answer) in enumerate(batch):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        mask[row, :end] = 1
        # The logits at position t predict the token at t + 1.
        targets[row, len(prompt) - 1 : end - 1] = torch.tensor(answer)
    return ids, mask, targets


def answer_loss(model, batch):
    """Mean cross entropy over the answer tokens; the head runs only where there is a target."""
    ids, mask, targets = to_tensors(batch)
    hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    wanted = targets != -100
    return F.cross_entropy(model.lm_head(hidden[wanted]), targets[wanted])


def run(model, parameters, batches, steps, rate, weight_decay):
    """AdamW with a short warm-up and a cosine down to a twentieth of the rate."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=weight_decay)
    warmup = min(100, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.05 + 0.475 * (1 + math.cos(math.pi * min(step / steps, 1.0)))),
    )
    model.train()
    began, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        loss = answer_loss(model, next(batches))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            print(f"step {step}  loss {total / 100:.4f}  {time.monotonic() - began:.0f} s", flush=True)
            total = 0.0


def draw_style(rng):
    """Half plain; French gets the most of the rest, because it has words of its own."""
    return rng.choices(STYLES, weights=(50, 9, 14, 9, 9, 9))[0]


def save(model):
    """Writes the model folder's weights (bfloat16, tied head left out, control tokens cut off) and its configuration."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        if name == "model.embed_tokens.weight":
            tensor = tensor[:VOCAB_SIZE]
        tensors[name] = tensor.to(torch.bfloat16).contiguous().clone()
    save_file(tensors, str(MODEL_DIR / "model.safetensors"), metadata={"format": "pt"})
    generation = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    for name, value in (("config.json", CONFIG), ("generation_config.json", generation)):
        (MODEL_DIR / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    print(f"base: {sum(tensor.numel() for tensor in tensors.values())} parameters")


def main():
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    tokenizer = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    model = LlamaForCausalLM(LlamaConfig(**{**CONFIG, "torch_dtype": "float32", "vocab_size": VOCAB_SIZE + len(CONTROL)}))
    batches = Sampler(tokenizer, SEED, CONTROL).batches(BASE_BATCH, draw_style)
    run(model, list(model.parameters()), batches, BASE_STEPS, BASE_RATE, weight_decay=0.05)
    save(model)


if __name__ == "__main__":
    main()
