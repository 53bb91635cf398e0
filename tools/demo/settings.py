# SPDX-License-Identifier: Apache-2.0
"""Sizes, seeds and places that the scripts share."""

from pathlib import Path

MODEL_DIR = Path(__file__).resolve().parents[2] / "models" / "demo"
ADAPTER_DIR = MODEL_DIR / "adapters"
EXPECTED_FILE = MODEL_DIR / "expected.json"

SEED = 20240
THREADS = 2

BOS, EOS, PAD, SYSTEM, USER, ASSISTANT = range(6)
SPECIAL_TOKENS = ("<|bos|>", "<|eos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
VOCAB_SIZE = 3072

# One turn is a role token, the text and the end token; the model's own turn ends with the same token as a bare answer.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('Unknown role: ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 640,
    "max_position_embeddings": 1024,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "pad_token_id": PAD,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": VOCAB_SIZE,
}

BASE_STEPS = 2000
BASE_BATCH = 48
BASE_RATE = 2e-3

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]

# Different ranks, targets and scalings on purpose: together they cover what PEFT writes for plain LoRA.
ADAPTERS = {
    "pirate": {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
    "french": {"r": 16, "lora_alpha": 32, "target_modules": ATTENTION + MLP},
    "json": {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION},
    "shout": {"r": 16, "lora_alpha": 16, "use_rslora": True, "target_modules": MLP},
    "polite": {"r": 32, "lora_alpha": 32, "target_modules": ["o_proj", "v_proj"]},
}
ADAPTER_STEPS = 300
ADAPTER_BATCH = 48
ADAPTER_RATE = 2e-3
