"""`icalign new`: starting files, each sound from the first, with what is left to write marked TODO."""

from pathlib import Path
from typing import Annotated

import typer

from server.authoring.new import new_constitution, new_demonstration, new_profile, new_template
from server.commands.output import command, remark
from server.commands.workbench import ConfigOption, PromptsOption
from server.core.types import Rendering, Risk
from server.settings import load_settings

new = typer.Typer(no_args_is_help=True, help="Write a starting file, or add a demonstration to one.")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Its name: small letters, digits and hyphens.")]
DescriptionOption = Annotated[str | None, typer.Option(help="Whom or what it is for.")]


@new.command()
@command
def profile(
    identifier: IdArgument,
    extends: Annotated[
        str | None, typer.Option(help="Profile to start from; then only what differs is written.")
    ] = None,
    rendering: Annotated[Rendering | None, typer.Option(help="chat, or completion for base models.")] = None,
    constitution: Annotated[str | None, typer.Option(help="File of constitutions/.")] = None,
    template: Annotated[str | None, typer.Option(help="File of templates/.")] = None,
    description: DescriptionOption = None,
    prompts: PromptsOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a profile."""
    path = new_profile(
        _folder(prompts, config),
        identifier,
        extends=extends,
        rendering=rendering,
        constitution=constitution,
        template=template,
        description=description,
    )
    _tell(path, f"ask for it as model NAME:{identifier}")


@new.command()
@command
def constitution(
    identifier: IdArgument,
    description: DescriptionOption = None,
    prompts: PromptsOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a constitution."""
    path = new_constitution(_folder(prompts, config), identifier, description=description)
    _tell(path, f"name it in a profile (constitution: {identifier})")


@new.command()
@command
def template(
    identifier: IdArgument,
    template: Annotated[str, typer.Option(help="Template to start from.")] = "chat",
    prompts: PromptsOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a template, as a copy of another one."""
    path = new_template(_folder(prompts, config), identifier, template=template)
    _tell(path, f"name it in a profile (template: {identifier})")


@new.command()
@command
def demonstration(
    identifier: IdArgument,
    topic: Annotated[str, typer.Option(help="File of demonstrations/ to add it to; made where there is none.")],
    risk: Annotated[Risk | None, typer.Option(help="What the message is; with a contrast, lookalike.")] = None,
    aspect: Annotated[str | None, typer.Option(help="helpful, honest, harmless or respectful.")] = None,
    user: Annotated[str | None, typer.Option(help="The message.")] = None,
    assistant: Annotated[str | None, typer.Option(help="The answer to imitate.")] = None,
    contrast: Annotated[str | None, typer.Option(help="Id of the harmful one that it resembles.")] = None,
    language: Annotated[str | None, typer.Option(help="BCP-47 tag, such as de; English unless given.")] = None,
    prompts: PromptsOption = None,
    config: ConfigOption = None,
) -> None:
    """Add a demonstration to a topic."""
    path = new_demonstration(
        _folder(prompts, config),
        identifier,
        topic,
        risk=risk,
        aspect=aspect,
        user=user,
        assistant=assistant,
        contrast=contrast,
        language=language,
    )
    _tell(path, f"see that a profile names it (demonstrations: [{topic}])")


def _folder(prompts: Path | None, config: Path | None) -> Path:
    return load_settings({"prompts": prompts}, config).prompts


def _tell(path: Path, then: str) -> None:
    """Where it is, and what to do next."""
    typer.echo(path)
    remark(f"Next: write what is marked TODO in it, {then}, and run `icalign check`.")
