"""`icalign schema`: the JSON Schemas of prompt files, printed or published beside the files."""

from typing import Annotated

import typer

from server.authoring.schemas import schema_text, schemas, write_schemas
from server.commands.output import command, fail, remark
from server.commands.workbench import ConfigOption, PromptsOption
from server.settings import load_settings


@command
def schema(
    kind: Annotated[str | None, typer.Argument(help="Kind of prompt file; by default all, by kind.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Into schemas/ of the prompts folder.")] = False,
    prompts: PromptsOption = None,
    config: ConfigOption = None,
) -> None:
    """Print the JSON Schema of a kind of prompt file, or publish all beside the files."""
    known = schemas()
    if kind is not None and kind not in known:
        fail(f"There is no kind {kind!r}; there are {', '.join(known)}.")
    if write:
        for path in write_schemas(load_settings({"prompts": prompts}, config).prompts):
            remark(f"Written: {path}")
    else:
        typer.echo(schema_text(known[kind] if kind else dict(known)), nl=False)
