"""`bncheck rule`: the pages of the rules."""

from __future__ import annotations

import click


@click.command("rule")
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@click.option("--all", "everything", is_flag=True, help="Print the page of every rule.")
def command(codes: tuple[str, ...], everything: bool) -> None:
    """Print the page of each rule named (a code such as BN101, or a name); without one, list all.

    A rule marked `off` runs only when it is selected.
    """
    from bncheck.errors import BNCheckError
    from bncheck.pages import all_pages

    pages = all_pages()
    by_name = {page.name: page for page in pages.values()}
    if not codes and not everything:
        width = max(len(page.name) for page in pages.values())
        for page in pages.values():
            state = "" if page.default else " (off)"
            click.echo(f"{page.code}  {page.name:{width}}  {page.summary}{state}")
        return
    for code in pages if everything else codes:
        named = pages.get(code.upper()) or by_name.get(code)
        if named is None:
            raise BNCheckError(f"there is no rule {code!r}; `bncheck rule` lists them all")
        click.echo(named.text.strip() + "\n")
