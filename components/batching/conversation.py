"""Conversations to tokens and labels, in LLaVA's templates.

    v1     SYSTEM USER: <image>\\nquestion ASSISTANT: answer</s>USER: question ASSISTANT: answer</s>
    plain  <image>caption\\n
    chat   the tokenizer's own chat template

v1 and plain begin with the start token that the tokenizer itself puts before a text, where it does.

A conversation becomes pieces: text, or one special token by id. Text is tokenised between special tokens, so that
nothing a person wrote is ever read as a special token.

What the open prompt does not hold is the model's to produce, so the loss covers all of it: the blank before an answer
where the tokenizer makes it a token of its own (Llama before "3", byte-level BPE before "97"), the answer, and its end
mark. The tokens of the open prompt are the beginning of those of the conversation (text_tokens.py). Borders are
characters, never counts of tokens made elsewhere, and padding plays no part in them.

An image ends a text: what follows is tokenised like the beginning of one, as LLaVA does it. After an end mark the
text goes on, as its tokenizer takes it. A chat template's text is tokenised as one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from components.batching.text_tokens import encode_with_borders, start_token
from components.data.schema import IMAGE_MARKER, Turn
from components.errors import UserError

Template = Literal["plain", "v1", "chat"]
IGNORED = -100  # label of a token without loss, as in torch's cross entropy
END = -1  # in place of a special token: the end of the pieces
MARK = "\ue000\\d+\ue001"  # stands for a turn while its chat template is read
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Piece:
    """Text, or the special token `special`. `supervised`: the loss covers it."""

    text: str = ""
    special: int | None = None
    supervised: bool = False


@dataclass(frozen=True)
class Encoded:
    """Token ids and labels of equal length; the image stands expanded in them."""

    ids: list[int]
    labels: list[int]

    @property
    def num_supervised(self) -> int:
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class Encoder:
    """Turns conversations into tokens for one base model and one template."""

    tokenizer: Any  # a fast Hugging Face tokenizer
    template: Template
    image_token: int  # id
    num_image_tokens: int  # places that one image takes; none where it becomes weights (VLoRA)
    system: str = SYSTEM  # of v1; may be empty

    def __post_init__(self) -> None:
        if not self.tokenizer.is_fast:
            raise UserError(
                f"tokenizer {type(self.tokenizer).__name__} gives no character offsets, which labels need; "
                "use the fast tokenizer of this base (tokenizer.json)"
            )
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"tokenizer {type(self.tokenizer).__name__} has no end token; set eos_token in its files")
        if self.template == "chat" and not self.tokenizer.chat_template:
            raise UserError("template chat: the base's tokenizer has no chat template; use v1")

    def encode(self, turns: Sequence[Turn], has_image: bool, max_length: int) -> Encoded:
        """Tokens and labels of a whole conversation, truncated once, after the image is expanded.

        An `Encoded` without supervised tokens, or one whose image was cut, must not be trained on:
        see `is_trainable`.
        """
        whole = self._tokens(self._pieces(turns, has_image))
        labels = [IGNORED, *whole.labels[1:]]  # before the first token stands none that could predict it
        return Encoded(whole.ids[:max_length], labels[:max_length])

    def is_trainable(self, encoded: Encoded, has_image: bool) -> bool:
        places = encoded.ids.count(self.image_token)
        return encoded.num_supervised > 0 and places == (self.num_image_tokens if has_image else 0)

    def prompt(self, question: str, has_image: bool) -> list[int]:
        """Token ids of an open conversation: the model's next tokens are its answer."""
        ids = self._tokens(self._pieces([Turn("human", question)], has_image)).ids
        return ids or [self.tokenizer.eos_token_id]  # plain without image: a model goes on from one token at least

    def _pieces(self, turns: Sequence[Turn], has_image: bool) -> list[Piece]:
        first = None if self.template == "chat" else start_token(self.tokenizer)
        start = [] if first is None else [Piece(special=first)]
        make = {"plain": self._plain, "v1": self._v1, "chat": self._chat}[self.template]
        return start + make(turns, has_image)

    def _plain(self, turns: Sequence[Turn], has_image: bool) -> list[Piece]:
        image = [Piece(special=self.image_token)] if has_image else []
        captions = [Piece(turn.text + "\n", supervised=True) for turn in turns if turn.role == "assistant"]
        return image + captions[:1]

    def _v1(self, turns: Sequence[Turn], has_image: bool) -> list[Piece]:
        pieces = [Piece(self.system + " ")] if self.system else []
        for number, turn in enumerate(turns):
            if turn.role == "human":
                pieces.append(Piece("USER: "))
                pieces += self._question(turn.text, has_image and number == 0)
                pieces.append(Piece(" ASSISTANT:"))
            else:
                pieces.append(Piece(f" {turn.text}", supervised=True))
                pieces.append(Piece(special=self.tokenizer.eos_token_id, supervised=True))
        return pieces

    def _question(self, text: str, has_image: bool) -> list[Piece]:
        if not has_image:
            return [Piece(text)]
        words = text.replace(IMAGE_MARKER, "").strip()
        return [Piece(special=self.image_token), Piece("\n" + words)]

    def _chat(self, turns: Sequence[Turn], has_image: bool) -> list[Piece]:
        frame = self._frame(turns)
        specials = {str(token): index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        border = "|".join([MARK, *map(re.escape, sorted(specials, key=len, reverse=True))])
        parts = [(found.start(), found.end(), found.group()) for found in re.finditer(border, frame)]
        ranges = self._answer_ranges(turns, frame, parts)
        cuts = {0, len(frame), *(place for start, end, _ in parts for place in (start, end))}
        places = sorted(cuts | {start for start, _ in ranges})
        pieces: list[Piece] = []
        for start, end in pairwise(places):
            part, own = frame[start:end], any(first <= start < last for first, last in ranges)
            if part in specials:
                pieces.append(Piece(special=specials[part], supervised=own))
            elif re.fullmatch(MARK, part):
                number = int(part[1:-1])
                asked = turns[number].role == "human"
                text = [Piece(turns[number].text, supervised=own)]
                pieces += self._question(turns[number].text, has_image and number == 0) if asked else text
            else:
                pieces.append(Piece(part, supervised=own))
        return pieces

    def _frame(self, turns: Sequence[Turn]) -> str:
        """What the template makes of numbered marks in place of the turns, so that only its own text is parsed."""
        roles = {"human": "user", "assistant": "assistant"}
        messages = [{"role": roles[turn.role], "content": f"\ue000{n}\ue001"} for n, turn in enumerate(turns)]
        # A template that thinks aloud (Qwen3's) puts an empty thought into the prompt then, and not into the answer.
        settings = {"add_generation_prompt": turns[-1].role == "human", "enable_thinking": False}
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **settings))

    def _answer_ranges(
        self, turns: Sequence[Turn], frame: str, parts: Sequence[tuple[int, int, str]]
    ) -> list[tuple[int, int]]:
        """Of each answer the characters of the frame from the end of its open prompt to the end of its end mark.

        From the answer itself where the open prompt is no beginning of the frame; up to the answer's own end where
        the template has no special token after it.
        """
        ranges = []
        for number, turn in enumerate(turns):
            place = next((n for n, (_, _, part) in enumerate(parts) if part == f"\ue000{number}\ue001"), None)
            if turn.role == "human" or place is None:  # a template may leave a turn out
                continue
            start, end, _ = parts[place]
            opened = self._frame(turns[:number]) if number else ""
            following = parts[place + 1][1:] if place + 1 < len(parts) else (end, "\ue000")
            ends = following[0] if not following[1].startswith("\ue000") else end
            ranges.append((len(opened) if opened and frame[:start].startswith(opened) else start, ends))
        return ranges

    def _tokens(self, pieces: Sequence[Piece]) -> Encoded:
        ids: list[int] = []
        labels: list[int] = []
        section: list[Piece] = []  # text since the last special token
        before: int | None = None  # that token
        for piece in [*pieces, Piece(special=END)]:
            if piece.special is None:
                section.append(piece)
                continue
            made = self._section(section, before, piece.special)
            ids += made.ids
            labels += made.labels
            section, before = [], piece.special
            if piece.special != END:
                count = self.num_image_tokens if piece.special == self.image_token else 1
                ids += [piece.special] * count
                labels += [piece.special if piece.supervised else IGNORED] * count
        return Encoded(ids, labels)

    def _section(self, pieces: Sequence[Piece], before: int | None, after: int) -> Encoded:
        """Tokens and labels of the text between two special tokens."""
        text, ranges = "", []
        for piece in pieces:
            start, text = len(text), text + piece.text
            if piece.supervised and ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], len(text))
            elif piece.supervised:
                ranges.append((start, len(text)))
        if self.template == "chat":
            continues = before is not None
            first, last = self._kept(text, before, after)
            ranges = [(max(0, start - first), min(end, last) - first) for start, end in ranges]
            text = text[first:last]
        else:
            continues = before == self.tokenizer.eos_token_id
        if not text:
            return Encoded([], [])
        tokens, counts = encode_with_borders(self.tokenizer, text, [start for start, _ in ranges], continues)
        labels = [IGNORED] * len(tokens)
        for (_, end), count in zip(ranges, counts, strict=True):
            for place in range(count, len(tokens)):
                if end >= len(text) or tokens[place].start < end:
                    labels[place] = tokens[place].id
        return Encoded([token.id for token in tokens], labels)

    def _kept(self, text: str, before: int | None, after: int) -> tuple[int, int]:
        """The part of a text that special tokens beside it leave: some take the blanks around them."""
        known = self.tokenizer.added_tokens_decoder
        first = len(text) - len(text.lstrip()) if before in known and known[before].rstrip else 0
        last = len(text.rstrip()) if after in known and known[after].lstrip else len(text)
        return first, max(first, last)
