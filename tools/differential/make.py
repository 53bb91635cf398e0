# SPDX-License-Identifier: Apache-2.0
"""Random tiny models of every family with random PEFT adapters, and what PyTorch computes with each.

Usage: make.py OUT [--seed N] [--models N] [--adapters N] [--family NAME]
Writes OUT/<number>-<family>/{config.json, weights, adapters/<number>/, cases.json, logits.safetensors}; compare.ts runs the
engine over it. What transformers or PEFT itself refuses is drawn again and counted.
"""

import argparse
import json
import random
import shutil
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, logging
from transformers.pytorch_utils import Conv1D

warnings.filterwarnings("ignore")
logging.set_verbosity_error()
torch.set_num_threads(1)

ROTARY = ["default", "linear", "dynamic", "llama3", "yarn"]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def rope(rng, head_dim, kinds, partial=None):
    kind = rng.choice(kinds)
    rules = {"rope_type": kind, "rope_theta": rng.choice([500.0, 10000.0, 1e6])}
    if kind in ("linear", "dynamic"):
        rules["factor"] = rng.choice([2.0, 3.5])
    if kind == "llama3":
        rules |= dict(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    if kind == "yarn":
        rules |= dict(factor=4.0, original_max_position_embeddings=32)
    if partial is not None:
        rules["partial_rotary_factor"] = partial
    return rules


def sizes(rng):
    head_dim = rng.choice([8, 16, 24])
    kv = rng.choice([1, 2, 3])
    group = rng.choice([1, 2, 3])
    heads = kv * group
    return dict(vocab_size=rng.choice([61, 96, 130]), hidden_size=heads * head_dim, num_attention_heads=heads,
                intermediate_size=rng.choice([24, 40, 56]), num_key_value_heads=kv,
                num_hidden_layers=rng.choice([1, 2, 3]), max_position_embeddings=128,
                bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=rng.random() < 0.5), head_dim


def flag(rng):
    return rng.random() < 0.5


def window(rng):
    return rng.choice([5, 9, 14])


def config_of(rng, family):
    """Options of a random config."""
    common, head_dim = sizes(rng)
    own_head = rng.choice([8, 16, 32])
    rotary = rope(rng, head_dim, ROTARY)
    layers = common["num_hidden_layers"]
    kinds = [rng.choice(["sliding_attention", "full_attention"]) for _ in range(layers)]
    scalar = rng.choice([8, 20, 64])
    options = {
        "llama": lambda: dict(rope_parameters=rotary, attention_bias=flag(rng), mlp_bias=flag(rng),
                              hidden_act=rng.choice(["silu", "gelu", "gelu_pytorch_tanh", "relu"]),
                              **({"head_dim": own_head} if flag(rng) else {})),
        "mistral": lambda: dict(rope_parameters=rotary, sliding_window=rng.choice([None, window(rng)]),
                                **({"head_dim": own_head} if flag(rng) else {})),
        "qwen2": lambda: dict(rope_parameters=rotary, **(dict(use_sliding_window=True, sliding_window=window(rng),
                              max_window_layers=rng.choice([0, 1, layers])) if flag(rng) else {})),
        "qwen3": lambda: dict(rope_parameters=rotary, head_dim=own_head, attention_bias=flag(rng),
                              **(dict(use_sliding_window=True, sliding_window=window(rng), max_window_layers=1)
                                 if flag(rng) else {})),
        "gemma": lambda: dict(rope_parameters=rope(rng, head_dim, ROTARY), head_dim=own_head, attention_bias=flag(rng)),
        "gemma2": lambda: dict(head_dim=own_head, sliding_window=window(rng), query_pre_attn_scalar=scalar,
                               attn_logit_softcapping=rng.choice([None, 5.0]), layer_types=kinds,
                               final_logit_softcapping=rng.choice([None, 3.0]), attention_bias=flag(rng)),
        "gemma3_text": lambda: dict(head_dim=own_head, sliding_window=window(rng), query_pre_attn_scalar=scalar,
                                    layer_types=kinds, attention_bias=flag(rng), rope_parameters=dict(
                                        full_attention=rope(rng, own_head, ["default", "linear"]),
                                        sliding_attention=rope(rng, own_head, ["default"]))),
        "phi3": lambda: dict(sliding_window=rng.choice([None, window(rng)]), rope_parameters=rope(
            rng, head_dim, ["default"], rng.choice([None, 0.5]))),
        "phi": lambda: dict(rope_parameters=rope(rng, head_dim, ["default", "linear"], rng.choice([0.25, 0.5])),
                            qk_layernorm=flag(rng)),
        "stablelm": lambda: dict(rope_parameters=rope(rng, head_dim, ["default", "linear"], rng.choice([0.25, 0.5])),
                                 use_qkv_bias=flag(rng), qk_layernorm=flag(rng), use_parallel_residual=flag(rng)),
        "starcoder2": lambda: dict(rope_parameters=rotary, sliding_window=rng.choice([None, window(rng)]), use_bias=flag(rng)),
        "smollm3": lambda: dict(rope_parameters=rotary, no_rope_layers=[rng.choice([0, 1]) for _ in range(layers)],
                                attention_bias=flag(rng), mlp_bias=flag(rng),
                                **(dict(use_sliding_window=True, sliding_window=window(rng)) if flag(rng) else {})),
        "olmo2": lambda: dict(rope_parameters=rotary, attention_bias=flag(rng)),
        "granite": lambda: dict(rope_parameters=rotary, attention_bias=flag(rng), mlp_bias=flag(rng),
                                embedding_multiplier=3.0, attention_multiplier=0.4, residual_multiplier=0.7,
                                logits_scaling=rng.choice([0.5, 2.0])),
    }
    if family == "gpt2":
        return dict(vocab_size=common["vocab_size"], n_embd=common["hidden_size"], n_head=common["num_attention_heads"],
                    n_layer=layers, n_inner=rng.choice([None, 40]), n_positions=64, bos_token_id=1, eos_token_id=2,
                    tie_word_embeddings=flag(rng), scale_attn_by_inverse_layer_idx=flag(rng),
                    activation_function=rng.choice(["gelu_new", "gelu", "relu"]))
    return {**common, **options[family]()}


FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "phi", "stablelm",
            "starcoder2", "smollm3", "olmo2", "granite", "gpt2"]


def noise_model(model, family):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            if parameter.dim() == 1 and ("norm" in name or ".ln_" in name) and name.endswith("weight"):
                parameter.copy_((0.0 if family.startswith("gemma") else 1.0) + 0.3 * noise)
            else:
                parameter.copy_(noise * (0.25 if parameter.dim() == 1 else 1.3 / parameter.shape[-1] ** 0.5))


def old_spelling(path):
    """Rewrites a config as transformers 4 did, where that can say the same."""
    config = json.loads(path.read_text())
    rules = config.get("rope_parameters")
    if not isinstance(rules, dict) or "rope_type" not in rules:
        return
    rules = dict(rules)
    del config["rope_parameters"]
    config["rope_theta"] = rules.pop("rope_theta", 10000.0)
    if "partial_rotary_factor" in rules:
        config["partial_rotary_factor"] = rules.pop("partial_rotary_factor")
    config["rope_scaling"] = None if rules["rope_type"] == "default" else rules
    config["torch_dtype"] = config.pop("dtype", "float32")
    path.write_text(json.dumps(config, indent=1))


def build(rng, family, folder):
    options = config_of(rng, family)
    config = AutoConfig.for_model(family, **options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    noise_model(model, family)
    dtype = rng.choice(DTYPES)
    model.to(dtype).save_pretrained(folder, max_shard_size=rng.choice(["4KB", "1GB"]))
    if rng.random() < 0.3:
        old_spelling(folder / "config.json")
    return dict(options=options, dtype=str(dtype))


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def names_of(model):
    linears = [n for n, m in model.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D))]
    norms = [n for n, m in model.named_modules() if "norm" in n.split(".")[-1] or ".ln_" in f".{n.split('.')[-1]}"]
    head = [n for n in linears if n.endswith("lm_head")]
    inner = [n for n in linears if n not in head]
    embedding = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Embedding)][0]
    norms = [n for n in norms if list(dict(model.named_modules())[n].parameters(recurse=False))]
    return inner, head[0], embedding, norms


def expression(rng, name):
    """A regular expression that matches a module, as people and tools write them."""
    last, number = name.rsplit(".", 1)[-1], next(part for part in name.split(".") if part.isdigit())
    exact = name.replace(".", r"\.")
    return rng.choice([rf".*{last}", rf"^.*\.{last}$", rf"(?i).*{last.upper()}", rf"(?s:.*\.{last})\Z", rf".*(?<!x){last}",
                       rf".*\.\d+\..*{last}", rf".*\.{number}\.(?!mlp).*{last}", rf".*{last[:3]}\w+", exact, rf".+\b{last}\b",
                       rf"(?:{exact}|.*\.{number}\..*{last})", rf".*[^0-9]\.{number}\.[^.]+\.{last}", rf".*(?=.*{last}).*{last}"])


def pattern_key(rng, name):
    """A key of rank_pattern or alpha_pattern for a module."""
    parts, last = name.split("."), name.rsplit(".", 1)[-1]
    number = next((part for part in parts if part.isdigit()), "0")
    return rng.choice([last, name, ".".join(parts[-2:]), rf".*\.{number}\..*", rf"{number}\..*{last}", rf"^{name}",
                       rf"({last}|k_proj)", rf"{last}|v_proj", last[1:], r"\w+_proj", f"{last}$", rf"[{last[0]}k]{last[1:]}"])


def adapter_config(rng, model, vocab):
    inner, head, embedding, norms = names_of(model)
    layers = model.config.num_hidden_layers
    short = sorted({n.rsplit(".", 1)[-1] for n in inner})
    some = rng.sample(short, rng.randint(1, len(short)))
    tail = lambda n: n.rsplit(".", 1)[-1]
    options = dict(r=rng.randint(1, 9), lora_alpha=rng.choice([1, 4, 8, 16, 7]), use_rslora=flag(rng),
                   lora_dropout=rng.choice([0.0, 0.1]), task_type="CAUSAL_LM")
    features = []
    style = rng.choice(["list", "list", "list", "regex", "all-linear", "full", "dotted"])
    if style == "list":
        options["target_modules"] = list(some)
        if rng.random() < 0.35:
            options["target_modules"].append(tail(head)); features.append("head")
        if rng.random() < 0.35:
            options["target_modules"].append(tail(embedding)); features.append("embedding")
        if rng.random() < 0.25:
            options["layers_to_transform"] = rng.choice([rng.randrange(layers), sorted(rng.sample(range(layers), rng.randint(1, layers)))])
            if flag(rng):
                options["layers_pattern"] = rng.choice(["layers", ["layers", "h"], "model.layers", "[a-z]+"]) if "layers" in inner[0] else "h"
            features.append("layers")
    elif style == "regex":
        options["target_modules"] = expression(rng, rng.choice(inner)) if flag(rng) else r".*\.(" + "|".join(some) + r")" if flag(rng) else rf".*\.[0-{max(0, layers - 1)}]\..*({'|'.join(some)})$"
    elif style == "all-linear":
        options["target_modules"] = "all-linear"
    elif style == "full":
        options["target_modules"] = rng.sample(inner, rng.randint(1, len(inner)))
    else:
        options["target_modules"] = sorted({".".join(n.split(".")[-2:]) for n in rng.sample(inner, rng.randint(1, len(inner)))})
    features.append(style)
    if rng.random() < 0.2 and style in ("list", "all-linear") and len(short) > 1:
        options["exclude_modules"] = rng.choice([[rng.choice(short)], rf".*\.{rng.choice(short)}"]); features.append("exclude")
    if rng.random() < 0.35:
        keys = rng.choice([[rng.choice(short)], [rng.choice(inner)], [rf".*\.0\..*{rng.choice(short)}", rng.choice(short)],
                           [rf"^{rng.choice(inner).replace('.', chr(92) + '.')}"]])
        options["rank_pattern"] = {k: rng.randint(1, 12) for k in keys}; features.append("rank_pattern")
    if rng.random() < 0.3:
        options["alpha_pattern"] = {k: rng.choice([1, 3, 32, 0.5]) for k in [rng.choice(short), rng.choice(inner)]}
        features.append("alpha_pattern")
    if rng.random() < 0.2:
        for field, values in ("rank_pattern", [1, 3, 10]), ("alpha_pattern", [1, 2.5, 40]):
            options[field] = {pattern_key(rng, rng.choice(inner + [head, embedding])): rng.choice(values) for _ in range(rng.randint(1, 3))}
        features.append("keys")
    options["bias"] = rng.choice(["none", "none", "none", "all", "lora_only"])
    roll = rng.random()
    if roll < 0.2:
        options["use_dora"] = True; features.append("dora")
    elif roll < 0.35:
        options["lora_bias"] = True; features.append("lora_bias")
        options["bias"] = "none"
    if rng.random() < 0.25:
        options["modules_to_save"] = rng.choice([[tail(head)], [tail(embedding)], [tail(rng.choice(norms))],
                                                 [tail(head), tail(embedding)], [tail(head), tail(rng.choice(norms))],
                                                 [rng.choice(short)]])
        features.append("save:" + "+".join("head" if n == tail(head) else "embedding" if n == tail(embedding) else
                                            "linear" if n in short else "norm" for n in options["modules_to_save"]))
    elif rng.random() < 0.2:
        ids = rng.sample(range(3, vocab), rng.randint(1, 5))
        # PEFT's layer for trained rows of a head leaves out the head's bias (Phi), which the base and merging keep.
        if model.get_submodule(head).bias is None:
            options["trainable_token_indices"] = rng.choice([ids, {tail(embedding): ids}, {tail(head): ids}]); features.append("tokens")
    if rng.random() < 0.1:
        options["alora_invocation_tokens"] = [rng.randrange(3, vocab) for _ in range(rng.randint(1, 3))]; features.append("alora")
    if model.config.tie_word_embeddings and rng.random() < 0.5:
        options["ensure_weight_tying"] = True; features.append("tying")
    if model.config.model_type == "gpt2":
        options["fan_in_fan_out"] = flag(rng)
    if options["bias"] != "none":
        features.append("bias:" + options["bias"])
    if options["use_rslora"]:
        features.append("rslora")
    return options, features


def prompts_of(rng, vocab, invocation):
    rows = []
    for length in (rng.randint(1, 7), rng.randint(10, 34)):
        row = [rng.randrange(3, vocab) for _ in range(length)]
        if invocation and length > 7:
            for _ in range(rng.randint(0, 2)):
                at = rng.randrange(0, length)
                row[at:at] = invocation
        rows.append(row)
    return rows


def forward(model, ids):
    with torch.no_grad():
        model(input_ids=torch.tensor([[1]]), use_cache=False)  # a dynamic table goes back to that of short sequences
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().contiguous()


def resized(folder, more):
    model = load(folder)
    if more:
        model.resize_token_embeddings(model.config.vocab_size + more, mean_resizing=False)
    return model


def new_rows(model, more):
    """Rows that make a difference, where resizing left small or equal ones."""
    if more < 0:
        return
    with torch.no_grad():
        for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            table[-more:] = torch.randn(more, table.shape[1]) * table[:-more].std()
        if getattr(model.get_output_embeddings(), "bias", None) is not None:
            model.get_output_embeddings().bias[-more:] = 0.5 * torch.randn(more)


def randomise(adapted):
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape)
            if "magnitude" in name:
                parameter.mul_(1.0 + 0.3 * torch.rand(parameter.shape))
            elif "lora_" in name or "trainable_tokens" in name:
                parameter.copy_(noise * (0.3 if "lora_B" in name or "lora_embedding_B" in name else 1 / parameter.shape[-1] ** 0.5))
            else:
                parameter.add_(0.2 * noise)


def rename(rng, tensors):
    """Names as wrappers write them; the content stays."""
    style = rng.choice(["peft", "peft", "peft", "compiled", "parallel", "adapter"])
    if style == "compiled":
        return style, {k.replace("base_model.model.", "base_model.model._orig_mod.", 1): v for k, v in tensors.items()}
    if style == "parallel":
        return style, {"module." + k: v for k, v in tensors.items()}
    if style == "adapter":
        return style, {k.replace("lora_A.weight", "lora_A.default.weight").replace("lora_B.weight", "lora_B.default.weight"): v for k, v in tensors.items()}
    return style, tensors


def body_of(model, headless):
    return getattr(model, model.base_model_prefix) if headless else model


def attach(model, place, headless):
    """The model as PEFT adapts it from a folder; of a headless adapter only its body is PEFT's."""
    loaded = PeftModel.from_pretrained(body_of(model, headless), place).eval()
    return model if headless else loaded


def without_body(options, body):
    """A config as it is for the model without its head: paths begin inside the body."""
    cut = lambda text: text.replace(body + r"\.", "").replace(body + ".", "")
    for field in ("target_modules", "exclude_modules", "layers_pattern"):
        value = options.get(field)
        options[field] = cut(value) if isinstance(value, str) else value and [cut(one) for one in value]
    for field in ("rank_pattern", "alpha_pattern"):
        options[field] = {cut(key): value for key, value in options.get(field, {}).items()}


COMBINED = ["svd", "linear", "cat", "ties", "ties_svd", "dare_ties", "dare_linear", "dare_linear_svd", "magnitude_prune"]


def combine(rng, model):
    """Several adapters, made one by PEFT (add_weighted_adapter)."""
    inner, head, embedding, _ = names_of(model)
    short = sorted({n.rsplit(".", 1)[-1] for n in inner})
    how = rng.choice(COMBINED)
    targets = rng.choice([short, [rng.choice(short), head], [rng.choice(short), embedding], "all-linear"])
    rank, count = rng.randint(1, 6), rng.randint(1, 3)
    configs = [LoraConfig(r=rank if how in ("linear", "ties", "dare_ties", "dare_linear", "magnitude_prune") else rng.randint(1, 6),
                          lora_alpha=rng.choice([2, 8, 5]), target_modules=targets, use_rslora=flag(rng), task_type="CAUSAL_LM",
                          alpha_pattern={rng.choice(short): 7} if flag(rng) else {}) for _ in range(count)]
    adapted = get_peft_model(model, configs[0], adapter_name="x0")
    for at, config in enumerate(configs[1:], 1):
        adapted.add_adapter(f"x{at}", config)
    for at in range(count):
        adapted.set_adapter(f"x{at}")
        randomise(adapted)
    density = {} if how in ("svd", "linear", "cat") else {"density": rng.choice([0.3, 0.6, 0.9])}
    weights = [rng.choice([0.5, 1.0, -0.7, 1.3]) for _ in configs]
    adapted.add_weighted_adapter([f"x{at}" for at in range(count)], weights, "default", combination_type=how, **density)
    adapted.set_adapter("default")
    for at in range(count):
        adapted.delete_adapter(f"x{at}")
    return adapted, [f"combined:{how}"]


def make_mixture(rng, folder, names, vocab):
    """Adapters in one row, each with a weight: the sum of their updates."""
    weights = [rng.choice([0.5, 1.0, -0.4, 1.5]) for _ in names]
    places = [folder / "adapters" / name for name in names]
    loaded = PeftModel.from_pretrained(load(folder), places[0], adapter_name="m0")
    for at, place in enumerate(places[1:], 1):
        loaded.load_adapter(place, adapter_name=f"m{at}")
    loaded.base_model.set_adapter([f"m{at}" for at in range(len(names))])
    for layer in (m for m in loaded.eval().modules() if isinstance(m, LoraLayer)):
        for at, weight in enumerate(weights):
            if f"m{at}" in layer.scaling:
                layer.scaling[f"m{at}"] *= weight
    prompts = prompts_of(rng, vocab, None)
    return dict(features=["mixture"], parts=list(zip(names, weights)), prompts=prompts, logits=[forward(loaded, ids) for ids in prompts])


# Features of adapters that are more than an update which is added, and of names that PEFT does not read.
NOT_MIXED = ("dora", "save:", "tokens", "bias:", "alora", "resized", "tying", "headless", "names:compiled", "names:parallel", "names:adapter")


def make_adapter(rng, folder, place, vocab, counts):
    more = rng.choice([0, 0, 0, 0, 1, 5, -7])
    combined = more == 0 and rng.random() < 0.2
    model = resized(folder, more)
    headless = more == 0 and not combined and model.base_model_prefix == "model" and rng.random() < 0.08
    vocab += more
    options, features = adapter_config(rng, model, vocab)
    if headless:
        without_body(options, model.base_model_prefix)
        options["task_type"] = "FEATURE_EXTRACTION"
        options.pop("alora_invocation_tokens", None)
        features.append("headless")
    if more:
        features.append(f"resized:{more}")
        new_rows(model, more)
    try:
        if combined:
            options, (adapted, features) = {}, combine(rng, model)
        else:
            adapted = get_peft_model(body_of(model, headless), LoraConfig(**options))
            randomise(adapted)
        adapted.save_pretrained(place, save_embedding_layers=bool(more) or rng.choice([False, False, "auto"]))
        # Both ends of a tied table say the same only if they are rounded alike.
        dtype = rng.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16, *([] if "tying" in features else [None])])
        file = place / "adapter_model.safetensors"
        # Copies of base weights keep their values: a rounded copy would make PEFT run with another base.
        copies = ("base_layer", "embed", "wte", "lm_head") if more else ("base_layer",)
        tensors = {k: v.contiguous() if any(c in k for c in copies) else v.to(dtype or rng.choice(DTYPES)).contiguous()
                   for k, v in load_file(file).items()}
        save_file(tensors, file)
        if more and not any(v.shape[:1] == (vocab,) for v in tensors.values()):
            raise ValueError("the file says nothing of the new rows: PEFT took a table for a target that is none")
        loaded = attach(resized(folder, more), place, headless)
        prompts = prompts_of(rng, vocab, options.get("alora_invocation_tokens"))
        logits = [forward(loaded, ids) for ids in prompts]
        if not all(torch.isfinite(l).all() for l in logits):
            raise ValueError("not finite")
        style, renamed = ("peft", tensors) if headless or combined else rename(rng, tensors)
        save_file(renamed, file)
        features.append(f"names:{style}")
    except Exception as fault:
        counts["refused by the reference"] = counts.get("refused by the reference", 0) + 1
        counts.setdefault("examples", {})[str(fault)[:80]] = features
        shutil.rmtree(place, ignore_errors=True)
        return None
    (place / "README.md").unlink(missing_ok=True)
    return dict(features=features, prompts=prompts, logits=logits, vocab=vocab)


def make(rng, number, family, out, adapters, counts):
    folder = out / f"{number:03d}-{family}"
    torch.manual_seed(rng.randrange(2**31))
    try:
        made = build(rng, family, folder)
        base = load(folder)
    except Exception as fault:
        counts["models refused by transformers"] = counts.get("models refused by transformers", 0) + 1
        counts.setdefault("examples", {})[f"{family}: {str(fault)[:90]}"] = 1
        shutil.rmtree(folder, ignore_errors=True)
        return
    vocab = base.config.vocab_size
    tensors, cases = {}, {}
    prompts = prompts_of(rng, vocab, None)
    for i, ids in enumerate(prompts):
        tensors[f"base/{i}"] = forward(base, ids)
    cases["base"] = dict(prompts=prompts, features=[])
    for at in range(adapters):
        name = f"a{at}"
        result = make_adapter(rng, folder, folder / "adapters" / name, vocab, counts)
        if result is None:
            continue
        for i, logits in enumerate(result.pop("logits")):
            tensors[f"{name}/{i}"] = logits
        cases[name] = result
        counts["adapters"] = counts.get("adapters", 0) + 1
    plain = [name for name, case in cases.items() if name != "base" and not any(f.startswith(NOT_MIXED) for f in case["features"])]
    if len(plain) > 1:
        mixture = make_mixture(rng, folder, rng.sample(plain, 2), vocab)
        for i, logits in enumerate(mixture.pop("logits")):
            tensors[f"mixture/{i}"] = logits
        cases["mixture"] = mixture
        counts["mixtures"] = counts.get("mixtures", 0) + 1
    save_file(tensors, folder / "logits.safetensors")
    (folder / "cases.json").write_text(json.dumps(dict(model=made, cases=cases), default=str))
    # The weights' index must not list what is not the model's.
    (folder / "logits.safetensors").rename(folder / "expected.st")
    counts["models"] = counts.get("models", 0) + 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=int, default=15)
    parser.add_argument("--adapters", type=int, default=6)
    parser.add_argument("--family")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for number in range(args.models):
        rng = random.Random(args.seed * 10_000 + number)
        family = args.family or FAMILIES[number % len(FAMILIES)]
        make(rng, number, family, args.out, args.adapters, counts)
    print(json.dumps(counts, indent=1))


main()
