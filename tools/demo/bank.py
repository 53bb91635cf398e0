# SPDX-License-Identifier: Apache-2.0
"""The question bank: topics, their phrasings, and two answers each in English and French."""

import json
from dataclasses import dataclass
from pathlib import Path

BANK_FILE = Path(__file__).with_name("bank.json")


@dataclass(frozen=True)
class Question:
    """One phrasing. `best` is the index of the answer that suits it better."""

    text: str
    topic: "Topic"
    best: int


@dataclass(frozen=True)
class Topic:
    """A topic with two answers; each answer is {"en": ..., "fr": ...}."""

    name: str
    answers: tuple
    ask: tuple
    ask_second: tuple
    unseen: tuple

    def questions(self):
        """The phrasings that the model is trained on."""
        return [Question(q, self, 0) for q in self.ask] + [Question(q, self, 1) for q in self.ask_second]

    def held_out(self):
        """Phrasings that no script ever trains on; eval.py reports them apart."""
        return [Question(q, self, 0) for q in self.unseen]


def _topic(entry):
    return Topic(
        entry["topic"],
        tuple(entry["answers"]),
        tuple(entry["ask"]),
        tuple(entry.get("ask_second", ())),
        tuple(entry["unseen"]),
    )


def load_bank():
    """Returns (topics, unknown): the topics, and the topic for everything the model does not know."""
    bank = json.loads(BANK_FILE.read_text(encoding="utf-8"))
    return [_topic(entry) for entry in bank["topics"]], _topic(bank["unknown"])
