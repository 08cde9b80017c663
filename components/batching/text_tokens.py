"""Text to tokens as one tokenizer makes them: at the start of a text, after a special token, and across a border.

A border is where an open prompt ends and the model's own text begins. The tokens before it are those of the open
prompt, whatever follows, because that is what the model is given when it answers:

    open prompt   ... | assistant | \\n |
    whole text    ... | assistant | \\n\\n | Rice |        a tokenizer with a token for two line breaks
    given here    ... | assistant | \\n | \\n | Rice |
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from tokenizers import Tokenizer


class Token(NamedTuple):
    id: int
    start: int  # first character
    end: int  # one past the last


def start_token(tokenizer: Any) -> int | None:
    """The token that this tokenizer itself puts before a text (Llama: <s>); None where it puts none (GPT-2, SmolLM2).

    A tokenizer may name a start token that its model never saw at the start of a text.
    """
    start = tokenizer.bos_token_id
    return start if start is not None and tokenizer("a")["input_ids"][:1] == [start] else None


def encode(tokenizer: Any, text: str, continues: bool = False) -> list[Token]:
    """The tokens of a text, none of them special.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        continues: the text follows a special token of the same prompt. Llama's tokenizer puts a blank before a
            prompt's first word alone (`legacy: false`) or before every word after a special token (`legacy: true`).
    """
    if continues and (core := _continuing(tokenizer)):
        made = core.encode(text, add_special_tokens=False)
        found = [Token(token, *span) for token, span in zip(made.ids, made.offsets, strict=True)]
    else:
        options = {"add_special_tokens": False, "return_offsets_mapping": True, "split_special_tokens": True}
        named = tokenizer(text, **options)
        found = [Token(token, *span) for token, span in zip(named["input_ids"], named["offset_mapping"], strict=True)]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    cut = next((token.start + 1 for token in found if token.id in special), None)
    if cut is None:
        return found
    # Some vocabularies (Unigram) hold the text of a special token as a word: it is taken apart.
    return encode(tokenizer, text[:cut], continues) + _moved(encode(tokenizer, text[cut:], True), cut)


def encode_with_borders(
    tokenizer: Any, text: str, borders: Sequence[int], continues: bool
) -> tuple[list[Token], list[int]]:
    """The tokens of a text that open prompts end in, and how many of them stand before each border.

    borders: characters at which an open prompt ends, ascending.
    """
    tokens: list[Token] = []
    counts = []
    for start, end in zip([0, *borders], [*borders, len(text)], strict=True):
        tokens = _go_on(tokenizer, tokens, encode(tokenizer, text[:end], continues), text[start:end], start)
        counts.append(len(tokens))
    return tokens, counts[:-1]


def _go_on(tokenizer: Any, prompt: list[Token], whole: list[Token], tail: str, border: int) -> list[Token]:
    """`whole` with the tokens of `prompt` at its beginning; `tail` is its text from the character `border` on."""
    same = 0
    while same < min(len(prompt), len(whole)) and prompt[same].id == whole[same].id:
        same += 1
    if same == len(prompt):
        return whole
    # Tokens of the whole text reach over the border. What they hold beyond the prompt becomes tokens of its own.
    word = tokenizer.convert_ids_to_tokens
    given = "".join(map(str, word([token.id for token in prompt[same:]])))
    reached = ""
    for place in range(same, len(whole)):
        reached += str(word(whole[place].id))
        if reached.startswith(given):
            rest = tokenizer.backend_tokenizer.model.tokenize(reached[len(given) :]) if reached != given else []
            between = [Token(token.id, border, whole[place].end) for token in rest]
            return [*prompt, *between, *whole[place + 1 :]]
    return [*prompt, *_moved(encode(tokenizer, tail, True), border)]


def _moved(tokens: Sequence[Token], by: int) -> list[Token]:
    return [Token(token.id, by + token.start, by + token.end) for token in tokens]


@lru_cache(maxsize=4)  # a large vocabulary takes a second to copy
def _continuing(tokenizer: Any) -> Tokenizer | None:
    """The tokenizer without the blank that it puts before a prompt's first word alone; None where it does not."""
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    first = [node for node in _nodes(tree["pre_tokenizer"]) if node.get("prepend_scheme") == "first"]
    if not first:
        return None
    for node in first:
        node["prepend_scheme"] = "never"
    core = Tokenizer.from_str(json.dumps(tree))
    core.encode_special_tokens = True
    core.no_truncation()
    core.no_padding()
    return core


def _nodes(tree: Any) -> list[dict[str, Any]]:
    """A pre-tokenizer's description and those of its parts."""
    if not isinstance(tree, dict):
        return []
    return [tree, *(node for part in tree.get("pretokenizers", []) for node in _nodes(part))]
