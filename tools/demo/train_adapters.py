# SPDX-License-Identifier: Apache-2.0
"""Trains the LoRA adapters on the stored base and saves them with PEFT. Usage: train_adapters.py [NAME ...]"""

import shutil
import sys
import zlib

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from samples import Sampler
from settings import ADAPTER_BATCH, ADAPTER_DIR, ADAPTER_RATE, ADAPTER_STEPS, ADAPTERS, MODEL_DIR, SEED, THREADS
from train_base import run


def train(name, options, tokenizer):
    """Trains and saves one adapter; every adapter starts from the stored base and from its own seed."""
    seed = SEED + zlib.crc32(name.encode()) % 1000
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    # PEFT writes this into adapter_config.json; without it the folder's place on this machine would stand there.
    base.name_or_path = "loramux/demo"
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, bias="none", **options))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    print(f"{name}: {sum(parameter.numel() for parameter in parameters)} parameters", flush=True)
    batches = Sampler(tokenizer, seed).batches(ADAPTER_BATCH, lambda rng: name)
    run(_Inner(model), parameters, batches, ADAPTER_STEPS, ADAPTER_RATE, weight_decay=0.0)
    for parameter in parameters:
        parameter.data = parameter.data.to(torch.float16)
    # PEFT keeps the targets as a set; in order, so that the same run gives the same bytes.
    model.peft_config["default"].target_modules = sorted(options["target_modules"])
    folder = ADAPTER_DIR / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card


class _Inner:
    """The two parts of a PEFT model that the training loop calls."""

    def __init__(self, peft_model):
        causal = peft_model.base_model.model
        self.model, self.lm_head, self.train = causal.model, causal.lm_head, peft_model.train


def main():
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    names = sys.argv[1:] or list(ADAPTERS)
    for name in names:
        if name not in ADAPTERS:
            raise SystemExit(f"no adapter {name!r}; there are {', '.join(ADAPTERS)}")
    tokenizer = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    for name in names:
        train(name, ADAPTERS[name], tokenizer)


if __name__ == "__main__":
    main()
