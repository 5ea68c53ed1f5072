"""The aligned endpoints by path."""

from collections.abc import Mapping

from server.rendering.forms.anthropic import AnthropicForm
from server.rendering.forms.base import Form
from server.rendering.forms.chat import BatchForm, ChatForm
from server.rendering.forms.completions import CompletionsForm
from server.rendering.forms.responses import ResponsesForm

_FORMS: tuple[Form, ...] = (ChatForm(), BatchForm(), CompletionsForm(), ResponsesForm(), AnthropicForm())
FORMS: Mapping[str, Form] = {form.path: form for form in _FORMS}
COMPLETION_PATH = CompletionsForm.path
