# SPDX-License-Identifier: Apache-2.0
"""Prints what PyTorch answers greedily with a model and each of its adapters, in float32, one row at a time.

Usage: expected.py MODEL ADAPTERS NAME...     ADAPTERS/NAME: a PEFT adapter; needs torch transformers peft
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

logging.set_verbosity_error()
logging.disable_progress_bar()
STEPS = 24
QUESTIONS = ["What is the capital of France?", "What do cows drink?"]


@torch.no_grad()
def greedy(model, ids):
    """New ids, and by how much the best logit leads the second at each step."""
    new, margins, cache = [], [], None
    fed = torch.tensor([ids])
    for _ in range(STEPS):
        out = model(input_ids=fed, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        best = out.logits[0, -1].float().topk(2)
        new.append(int(best.indices[0]))
        margins.append(round(float(best.values[0] - best.values[1]), 5))
        fed = torch.tensor([[new[-1]]])
    return new, margins


folder, adapters, names = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
tokenizer = AutoTokenizer.from_pretrained(folder)
rows = []
for name in [*names, None]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if name is not None:
        model = PeftModel.from_pretrained(model, adapters / name)
    model.eval()
    for question in QUESTIONS:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        new, margins = greedy(model, ids)
        rows.append(dict(adapter=name, question=question, ids=ids, new=new, margins=margins, text=tokenizer.decode(new)))
print(json.dumps(rows))
