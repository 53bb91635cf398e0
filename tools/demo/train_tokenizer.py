# SPDX-License-Identifier: Apache-2.0
"""Trains the byte-level BPE tokenizer on the bank and writes the tokenizer files of the model folder."""

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from bank import load_bank
from prompts import FRAMES, PREFIXES, SUFFIXES, SYSTEM_TEXTS
from settings import BOS, CHAT_TEMPLATE, CONFIG, MODEL_DIR, SPECIAL_TOKENS, VOCAB_SIZE
from styles import STYLES, answer_in


def corpus():
    """All text the model meets, with and without a leading space."""
    topics, unknown = load_bank()
    for topic in [*topics, unknown]:
        for question in topic.questions():
            yield from (question.text + "?", question.text.lower(), " " + question.text)
        for style in STYLES:
            for index in range(2):
                answer = answer_in(style, topic, index)
                yield from (answer, " " + answer)
        yield from (question.text.upper() for question in topic.questions()[:2])
    for text in (*FRAMES, *PREFIXES, *SUFFIXES, *SYSTEM_TEXTS):
        yield text


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL_TOKENS[BOS]} $A",
        pair=f"{SPECIAL_TOKENS[BOS]} $A {SPECIAL_TOKENS[BOS]}:1 $B:1",
        special_tokens=[(SPECIAL_TOKENS[BOS], BOS)],
    )
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise SystemExit(f"the bank gives only {tokenizer.get_vocab_size()} tokens, not {VOCAB_SIZE}")
    return tokenizer


def write_json(name, value):
    (MODEL_DIR / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def main():
    MODEL_DIR.mkdir(parents=True, exist_ok=True)
    tokenizer = train()
    tokenizer.save(str(MODEL_DIR / "tokenizer.json"))
    names = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL_TOKENS))
    write_json("special_tokens_map.json", names)
    write_json(
        "tokenizer_config.json",
        {
            "added_tokens_decoder": {
                str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
                for i, token in enumerate(SPECIAL_TOKENS)
            },
            **names,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONFIG["max_position_embeddings"],
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    longest = max(
        (len(tokenizer.encode(" " + answer_in(style, topic, index), add_special_tokens=False).ids) + 1, style, topic.name)
        for topic in load_bank()[0]
        for style in STYLES
        for index in range(2)
    )
    print(f"tokenizer: {tokenizer.get_vocab_size()} tokens, longest answer {longest}")


if __name__ == "__main__":
    main()
