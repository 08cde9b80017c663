"""Conversations to tokens and labels, in LLaVA's templates.

    v1     SYSTEM USER: <image>\\nquestion ASSISTANT: answer</s>USER: question ASSISTANT: answer</s>
    plain  <image>caption\\n
    chat   the tokenizer's own chat template

A conversation becomes pieces: text, or one special token by id. Text is tokenised between special
tokens, so that nothing a person wrote is ever read as a special token. The loss covers each answer and
its end mark: a token is supervised when one of its characters lies in an answer. The borders come from
the tokenizer's character offsets; nothing is tokenised twice, and padding plays no part in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.data.schema import IMAGE_MARKER, Turn
from components.errors import UserError

Template = Literal["plain", "v1", "chat"]
IGNORED = -100  # label of a token without loss, as in torch's cross entropy
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
        return self._tokens(self._pieces([Turn("human", question)], has_image)).ids

    def _pieces(self, turns: Sequence[Turn], has_image: bool) -> list[Piece]:
        bos = self.tokenizer.bos_token_id
        start = [Piece(special=bos)] if bos is not None and self.template != "chat" else []
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
                pieces += [
                    Piece(" "),
                    Piece(turn.text, supervised=True),
                    Piece(special=self.tokenizer.eos_token_id, supervised=True),
                ]
        return pieces

    def _question(self, text: str, has_image: bool) -> list[Piece]:
        if not has_image:
            return [Piece(text)]
        words = text.replace(IMAGE_MARKER, "").strip()
        return [Piece(special=self.image_token), Piece("\n" + words)]

    def _chat(self, turns: Sequence[Turn], has_image: bool) -> list[Piece]:
        # The template sees numbered marks in place of the turns, so that only its own text is parsed.
        roles = {"human": "user", "assistant": "assistant"}
        messages = [{"role": roles[turn.role], "content": f"\ue000{n}\ue001"} for n, turn in enumerate(turns)]
        opened = turns[-1].role == "human"
        frame = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened)
        specials = {str(token): index for index, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        border = "|".join(["\ue000\\d+\ue001", *map(re.escape, sorted(specials, key=len, reverse=True))])
        pieces: list[Piece] = []
        ends_answer = False
        for part in re.split(f"({border})", str(frame)):
            if part in specials:
                pieces.append(Piece(special=specials[part], supervised=ends_answer))
                ends_answer = False
            elif part.startswith("\ue000"):
                number = int(part[1:-1])
                turn = turns[number]
                ends_answer = turn.role == "assistant"
                answer = [Piece(turn.text, supervised=True)]
                pieces += answer if ends_answer else self._question(turn.text, has_image and number == 0)
            elif part:
                pieces.append(Piece(part))
        return pieces

    def _tokens(self, pieces: Sequence[Piece]) -> Encoded:
        ids: list[int] = []
        labels: list[int] = []
        text, answers = "", []  # text since the last special token; character ranges of answers in it
        for piece in [*pieces, Piece(special=-1)]:
            if piece.special is None:
                if piece.supervised:
                    answers.append((len(text), len(text) + len(piece.text)))
                text += piece.text
                continue
            if text:
                for token, start, end in self._text_tokens(text):
                    ids.append(token)
                    inside = any(start < stop and end > begin for begin, stop in answers)
                    labels.append(token if inside else IGNORED)
                text, answers = "", []
            if piece.special >= 0:
                count = self.num_image_tokens if piece.special == self.image_token else 1
                ids += [piece.special] * count
                labels += [piece.special if piece.supervised else IGNORED] * count
        return Encoded(ids, labels)

    def _text_tokens(self, text: str) -> list[tuple[int, int, int]]:
        """(id, first character, end) of each token of a text, none of them special.

        Some vocabularies (Unigram) hold the text of a special token as a word: it is taken apart.
        """
        tokens = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
        found = [(token, *span) for token, span in zip(tokens["input_ids"], tokens["offset_mapping"], strict=True)]
        special = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        cut = next((start + 1 for token, start, _ in found if token in special), None)
        if cut is None:
            return found
        tail = [(token, cut + start, cut + end) for token, start, end in self._text_tokens(text[cut:])]
        return self._text_tokens(text[:cut]) + tail
