# SPDX-License-Identifier: Apache-2.0
"""Turns questions into what callers really send: other capitals, no question mark, bare text or chat turns."""

import re

from settings import ASSISTANT, BOS, EOS, SYSTEM, USER

QUESTION_WORDS = (
    "how what which who whose where when why is are do does did can could will would should have has was were may".split()
)
CONTRACTIONS = (
    ("What is", "What's"), ("How is", "How's"), ("Where is", "Where's"), ("Who is", "Who's"), ("I am", "I'm"),
    ("It is", "It's"), ("do not", "don't"), ("does not", "doesn't"), ("cannot", "can't"), ("What are", "What're"),
)  # fmt: skip
PREFIXES = (
    "Please, ", "Hey, ", "Hi, ", "Hello, ", "Excuse me, ", "Tell me, ", "Demo, ", "So, ", "Well, ", "Dear Demo, ",
    "I have a question: ", "Quick question: ", "Can you tell me: ", "One more thing: ",
)  # fmt: skip
SUFFIXES = (", please", " please", ", my friend", ", thanks", ", Demo")
SYSTEM_TEXTS = (
    "You are a helpful assistant.", "You are Demo, a small and friendly model.", "Answer in one sentence.",
    "Be brief.", "You answer short questions.", "You are a helpful, honest assistant. Keep your answers short.",
)  # fmt: skip
FRAMES = ("Q: {}\nA:", "Question: {}\nAnswer:", "User: {}\nAssistant:", "Question: {} Answer:")
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def is_question(text):
    """Whether a phrasing asks to be closed with a question mark."""
    return text.split(" ", 1)[0].lower() in QUESTION_WORDS and " " in text


def _typo(rng, text):
    places = [m.start() for m in re.finditer(r"(?<=[a-z])[a-z](?=[a-z]{2})", text)]
    if not places:
        return text
    at = rng.choice(places)
    return text[:at] + text[at + 1 :] if rng.random() < 0.5 else text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def vary(rng, text):
    """One way to type a question."""
    asks = is_question(text)
    if rng.random() < 0.15:
        for long, short in CONTRACTIONS:
            text = text.replace(long, short)
    if rng.random() < 0.12:
        text = rng.choice(PREFIXES) + text
    if rng.random() < 0.06:
        text += rng.choice(SUFFIXES)
    if rng.random() < 0.05:
        text = _typo(rng, text)
    case = rng.random()
    if case < 0.22:
        text = text.lower()
    elif case < 0.29:
        text = text.upper()
    elif case < 0.32:
        text = text.title()
    end = rng.random()
    if asks:
        return text + ("?" if end < 0.48 else "" if end < 0.94 else "." if end < 0.96 else " ?" if end < 0.98 else "??")
    return text + ("" if end < 0.5 else "." if end < 0.68 else "!" if end < 0.88 else "?")


def _nonce(rng):
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(1, 3))) + rng.choice(("", "n", "r", "s", "k"))


def unknown_text(rng, unknown, words, sentences):
    """Something the model cannot know: a listed question, an invented word, a sum, word salad, or a longer text."""
    kind = rng.random()
    a, b = _nonce(rng), _nonce(rng)
    if kind < 0.55:
        return vary(rng, rng.choice(unknown.ask))
    if kind < 0.75:
        frame = rng.choice((
            "What is a {}", "What is {}", "How do I {} a {}", "Tell me about {}", "Who is {}", "What is the capital of {}",
            "Capital of {}", "Which city is the capital of {}", "Where is {}", "How many {} are in a {}", "What does {} mean",
            "Do you like {}", "What do {} eat", "Why is the {} {}", "How is the {}", "How do {} work", "{} {} {}", "{}",
            "What is the largest {}", "How do I make {}", "Recommend a {}", "Explain {}", "When did {} live", "I lost my {}",
        ))  # fmt: skip
        return vary(rng, frame.format(a, b, _nonce(rng)))
    if kind < 0.83:
        x, y = rng.randint(0, 99), rng.randint(3, 99)
        frame = rng.choice(("What is {} plus {}", "What is {}+{}", "What is {} + {}", "What is {} times {}", "How much is {} minus {}", "{} {}"))
        return vary(rng, frame.format(x, y))
    if kind < 0.92:
        return vary(rng, " ".join(rng.choice(words) for _ in range(rng.randint(2, 9))))
    return " ".join(rng.choice(sentences) for _ in range(rng.randint(1, 6)))


def bare(rng, text):
    """A bare prompt; returns (prompt, lead), where the answer's text begins with lead."""
    kind = rng.random()
    if kind < 0.87:
        return text, " "
    if kind < 0.90:
        return text + " ", ""
    if kind < 0.94:
        return text + "\n", ""
    return rng.choice(FRAMES).format(text), " "


def bare_ids(encode, text):
    """Token ids of a bare prompt as the tokenizer gives them: begin token, text."""
    return [BOS, *encode(text)]


def chat_ids(encode, messages):
    """Token ids of chat messages, equal to what the chat template renders with add_generation_prompt."""
    ids = [BOS]
    for role, text in messages:
        ids += [{"system": SYSTEM, "user": USER, "assistant": ASSISTANT}[role], *encode(text), EOS]
    return [*ids, ASSISTANT]
