import pytest

from server.core.errors import InvalidRequestError
from server.core.types import Body
from server.rendering.forms.completions import CompletionsForm

FORM = CompletionsForm()


@pytest.mark.parametrize(("prompt", "texts"), [("a", ["a"]), (["a"], ["a"]), (["a", "b"], ["a", "b"])])
def test_each_prompt_is_a_message_to_answer(prompt: object, texts: list[str]) -> None:
    body: Body = {"prompt": prompt, "n": 2}
    assert FORM.read(body) == [[{"role": "user", "content": text}] for text in texts]
    written = FORM.write_completion(body, [text.upper() for text in texts])
    assert written == {"prompt": prompt.upper() if isinstance(prompt, str) else [t.upper() for t in texts], "n": 2}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt_embeds": "x"}, "prompt_embeds"),
        ({"prompt": "a", "truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
    ],
)
def test_what_cannot_be_aligned_is_refused(fields: Body, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        FORM.read(fields)
    assert caught.value.param == param
