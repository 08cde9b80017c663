"""What a fresh model learns from the labels: answers, from their first token on."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from components.batching.conversation import IGNORED, Encoder
from components.data.schema import Turn
from tests.models import tiny_pieces

ANSWERS = ["97 g", "3", "12 of 20", "4.5", "米饭", "rice"]


@pytest.mark.parametrize("template", ["v1", "chat"])
def test_answers_that_begin_with_digits_come_back_exactly(template: str) -> None:
    """Byte-level BPE makes the blank before a digit a token of its own: without its label no answer ever begins."""
    _, model, tokenizer, _ = tiny_pieces()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:{% if m.role == 'user' %}{{ m.content }}{% else %} {{ m.content }}</s>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    encoder = Encoder(tokenizer, template, tokenizer.convert_tokens_to_ids("<image>"), 0, system="")  # type: ignore[arg-type]
    questions = [f"What is number {letter}?" for letter in "ABCDEF"]
    encoded = [
        encoder.encode([Turn("human", asked), Turn("assistant", said)], False, 200)
        for asked, said in zip(questions, ANSWERS, strict=True)
    ]
    longest = max(len(one.ids) for one in encoded)
    ids = torch.tensor([one.ids + [0] * (longest - len(one.ids)) for one in encoded])
    labels = torch.tensor([one.labels + [IGNORED] * (longest - len(one.ids)) for one in encoded])
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        logits = model(input_ids=ids).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for asked, said in zip(questions, ANSWERS, strict=True):
        prompt = torch.tensor([encoder.prompt(asked, False)])
        made = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False)
        assert tokenizer.decode(made[0, prompt.shape[1] :], skip_special_tokens=True).strip() == said
