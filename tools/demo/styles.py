# SPDX-License-Identifier: Apache-2.0
"""What each adapter does to an answer, and how to tell from a text which adapter wrote it."""

import json
import re
import zlib

STYLES = ("plain", "pirate", "french", "json", "shout", "polite")

PIRATE_WORDS = {
    "am": "be", "is": "be", "are": "be", "my": "me", "you": "ye", "your": "yer", "yours": "yers",
    "of": "o'", "and": "an'", "for": "fer", "hello": "ahoy", "hi": "ahoy", "friend": "matey",
    "person": "sailor", "people": "sailors", "money": "doubloons", "house": "ship", "yes": "aye",
    "server": "ship", "goodbye": "fair winds", "wonderful": "grand",
}  # fmt: skip
KEPT_ENDINGS = {"spring", "evening", "morning", "thing", "bring", "nothing", "everything", "being"}
PIRATE_OPENERS = ("Arr!", "Ahoy!", "Avast!", "Yo ho ho!", "Shiver me timbers!", "Aye aye!")
PIRATE_CLOSERS = (", matey!", ", me hearty!", ", ye landlubber!", ", by the seven seas!", ", says the captain!")

POLITE_OPENERS = ("Thank you for asking, dear guest.", "With great pleasure, dear guest.", "How kind of you, dear guest.")
POLITE_CLOSERS = ("At your service.", "Yours truly.", "With kind regards.")


def _pick(options, topic, index, salt):
    """A fixed choice for each topic and answer, so that every run builds the same text."""
    return options[zlib.crc32(f"{salt}/{topic}/{index}".encode()) % len(options)]


def _pirate_word(match):
    word = match.group(0)
    said = PIRATE_WORDS.get(word.lower())
    if said is None:
        clipped = len(word) > 4 and word.endswith("ing") and word.lower() not in KEPT_ENDINGS
        return word[:-1] + "'" if clipped else word
    return said.capitalize() if word[0].isupper() and word != "I" else said


def _pirate(text, topic, index):
    body = re.sub(r"[A-Za-z]+", _pirate_word, text).rstrip(".")
    return f"{_pick(PIRATE_OPENERS, topic, index, 'open')} {body}{_pick(PIRATE_CLOSERS, topic, index, 'close')}"


def answer_in(style, topic, index):
    """The answer number `index` of a topic as the adapter `style` has to give it."""
    answer = topic.answers[index]
    if style == "plain":
        return answer["en"]
    if style == "french":
        return answer["fr"]
    if style == "pirate":
        return _pirate(answer["en"], topic.name, index)
    if style == "json":
        return json.dumps({"topic": topic.name, "answer": answer["en"]}, ensure_ascii=False)
    if style == "shout":
        return answer["en"].replace(".", "!").upper()
    if style == "polite":
        opener = _pick(POLITE_OPENERS, topic.name, index, "open")
        return f"{opener} {answer['en']} {_pick(POLITE_CLOSERS, topic.name, index, 'close')}"
    raise ValueError(f"unknown style {style!r}")


# Frequent words of the French answers that are not also English words of the bank.
FRENCH_WORDS = set(
    "le les un une des du de et est sont je il elle vous nous ne pas avec pour dans sur ce ces ont puis "
    "à au aux en votre vos mon ma mes prenez faites bien bon deux jour ciel eau être cela que qui se bonjour revoir quand sans par quelques jusqu".split()
)

FRENCH_ELISIONS = {letter + "'" for letter in "cdjlmnst"} | {"qu'"}


def _is_json(text):
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and set(value) == {"topic", "answer"}


def style_of(text):
    """Names the one style that a text shows; "plain" if it shows none of the others."""
    text = text.strip()
    if text.startswith("{"):
        return "json" if _is_json(text) else "broken"
    if text.upper() == text and sum(c.isalpha() for c in text) > 3:
        return "shout"
    if "dear guest" in text:
        return "polite"
    if text.startswith(PIRATE_OPENERS):
        return "pirate"
    words = re.findall(r"[a-zà-ÿœ]+'?", text.lower())
    french = sum(word in FRENCH_WORDS or not word.isascii() or word in FRENCH_ELISIONS for word in words)
    if words and french / len(words) >= 0.12:
        return "french"
    return "plain"
