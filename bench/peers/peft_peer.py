"""transformers and PEFT in this process: one static batch per load, float32, rows with adapters of their own.

Needs the packages torch, transformers and peft. Reads one JSON object from standard input: {"model": folder,
"adapters": [folders], "threads", "newTokens", "loads": [{"label", "prompts", "adapters": [index or null, ...]}]};
writes one JSON line per load: {"label", "tokensPerSecond"}.
"""
import json
import sys
import time

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

task = json.load(sys.stdin)
torch.set_num_threads(task["threads"])
tokenizer = AutoTokenizer.from_pretrained(task["model"])
tokenizer.padding_side = "left"
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32)


def generate(load, tokens):
    chosen = load["adapters"]
    batch = tokenizer(load["prompts"], return_tensors="pt", padding=True)
    names = {}
    if any(adapter is not None for adapter in chosen):
        names = {"adapter_names": ["__base__" if adapter is None else str(adapter) for adapter in chosen]}
    start = time.perf_counter()
    model.generate(**batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, **names)
    return len(chosen) * tokens / (time.perf_counter() - start)


with torch.inference_mode():
    # Loads of the base alone come first, on a model that no adapter was added to.
    loads = sorted(task["loads"], key=lambda load: any(adapter is not None for adapter in load["adapters"]))
    wrapped = False
    generate(loads[0], 4)
    for load in loads:
        if not wrapped and any(adapter is not None for adapter in load["adapters"]):
            first, *others = task["adapters"]
            model = PeftModel.from_pretrained(model, first, adapter_name="0")
            for index, folder in enumerate(others, 1):
                model.load_adapter(folder, adapter_name=str(index))
            model.eval()
            wrapped = True
            generate(load, 4)
        print(json.dumps({"label": load["label"], "tokensPerSecond": generate(load, task["newTokens"])}), flush=True)
