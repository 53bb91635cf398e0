# SPDX-License-Identifier: Apache-2.0
"""Endless training samples: (prompt ids, answer ids), drawn from the bank with a seed."""

import random

from bank import load_bank
from prompts import SYSTEM_TEXTS, bare, bare_ids, chat_ids, unknown_text, vary
from settings import BOS, EOS
from styles import STYLES, answer_in

MAIN_ANSWER_SHARE = 0.75
UNKNOWN_SHARE = 0.14


class Sampler:
    """Draws samples. `control` maps a style to a token id that announces it (base training), or is None (adapters)."""

    def __init__(self, tokenizer, seed, control=None):
        self.rng = random.Random(seed)
        self.encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        self.control = control
        self.topics, self.unknown = load_bank()
        questions = [q.text for topic in self.topics for q in topic.questions()]
        self.words = sorted({word for text in questions for word in text.split()})
        self.sentences = sorted(answer["en"] for topic in self.topics for answer in topic.answers)

    def _turn(self, style):
        """One question as typed, and its answer."""
        rng = self.rng
        if rng.random() < UNKNOWN_SHARE:
            topic, best = self.unknown, 0
            text = unknown_text(rng, topic, self.words, self.sentences)
        else:
            question = rng.choice(rng.choice(self.topics).questions())
            topic, best, text = question.topic, question.best, vary(rng, question.text)
        index = best if rng.random() < MAIN_ANSWER_SHARE else 1 - best
        return text, answer_in(style, topic, index)

    def sample(self, style):
        """One (prompt ids, answer ids) pair; the answer ends with the end token."""
        rng = self.rng
        text, answer = self._turn(style)
        if rng.random() < 0.5:
            prompt, lead = bare(rng, text)
            ids = bare_ids(self.encode, prompt)
        else:
            messages, lead = [], ""
            if rng.random() < 0.25:
                messages.append(("system", rng.choice(SYSTEM_TEXTS)))
            while rng.random() < 0.12:
                earlier, reply = self._turn(style if rng.random() < 0.5 else rng.choice(STYLES))
                messages += [("user", earlier), ("assistant", reply)]
            ids = chat_ids(self.encode, [*messages, ("user", text)])
        start = rng.random()
        # Some callers leave the begin token out, some send it twice.
        if start < 0.10:
            ids = ids[1:]
        elif start < 0.13:
            ids = [BOS, *ids]
        if self.control and style in self.control:
            ids = [*ids[: ids.count(BOS)], self.control[style], *ids[ids.count(BOS) :]]
        return ids, [*self.encode(lead + answer), EOS]

    def batches(self, size, draw_style):
        """Yields batches of samples; lengths inside a batch are alike, so that little is padded."""
        while True:
            pool = [self.sample(draw_style(self.rng)) for _ in range(size * 8)]
            pool.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
            batches = [pool[i : i + size] for i in range(0, len(pool), size)]
            self.rng.shuffle(batches)
            yield from batches
