"""LLaVA's v1 conversation as a Jinja chat template: the prompts of `lea serve`, for whoever loads an exported folder.

Content is text, or a list of parts in every role: so the multimodal examples of transformers have it, and vLLM makes
a list of it always. vLLM knows that a template reads parts by a loop over message['content'] in it, so that one stays.
"""

from __future__ import annotations

import re

from components.batching.conversation import SYSTEM
from components.data.schema import IMAGE_MARKER

_LINES = """
{% set ns = namespace(system=none, last='', words='', texts=0, images=0) %}
{% for message in messages %}
    {% set ns.words = '' %}{% set ns.texts = 0 %}{% set ns.images = 0 %}
    {% if message['content'] is string %}
        {% set ns.words = message['content'] %}
    {% else %}
        {% for part in message['content'] %}
            {% if part['type'] == 'text' %}
                {% set ns.words = ns.words + (' ' if ns.texts else '') + part['text'] %}
                {% set ns.texts = ns.texts + 1 %}
            {% elif part['type'] == 'image' %}
                {% set ns.images = ns.images + 1 %}
            {% else %}
                {{ raise_exception('a part of a message must be text or an image') }}
            {% endif %}
        {% endfor %}
    {% endif %}
    {% if ns.images and (ns.last or message['role'] != 'user' or ns.images > 1) %}
        {{ raise_exception('one image can be asked about, in the first user message') }}
    {% endif %}
    {% if message['role'] in ('system', 'developer') and not ns.last %}
        {% set ns.system = ns.words if ns.system is none else ns.system + '\\n\\n' + ns.words %}
    {% elif message['role'] != ('assistant' if ns.last == 'user' else 'user') %}
        {{ raise_exception('roles must be system (or none), user, assistant, user, ...') }}
    {% elif message['role'] == 'user' %}
        {% if not ns.last %}
            {% set ns.system = 'SYSTEM' if ns.system is none else ns.system %}
            {{ ns.system + ' ' if ns.system else '' }}
        {% endif %}
        {% set ns.words = 'IMAGE\\n' + ns.words | replace('IMAGE', '') | trim if ns.images else ns.words %}
        {{ 'USER: ' + ns.words + ' ASSISTANT:' }}
        {% set ns.last = 'user' %}
    {% else %}
        {{ ' ' + ns.words + eos_token }}
        {% set ns.last = 'assistant' %}
    {% endif %}
{% endfor %}
"""


def v1_template() -> str:
    """The template on one line: blanks between its tags would be part of the prompt."""
    line = re.sub(r"\s*\n\s*", "", _LINES)
    return line.replace("SYSTEM", SYSTEM.replace("'", "\\'")).replace("IMAGE", IMAGE_MARKER)
