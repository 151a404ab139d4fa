"""What mkdocs does beside its own work: formulas as MathML, figures from the README, and the gallery's pages."""

from __future__ import annotations

import ast
import html
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "gallery"  # what docs/run_examples.py leaves there
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def on_files(files: Any, config: Any) -> None:
    for example in EXAMPLES:
        files.append(File.generated(config, f"gallery/{example.stem}.md", content=page_of(example)))
        for picture in pictures(example):
            files.append(File.generated(config, f"gallery/{example.stem}/{picture.name}", abs_src_path=str(picture)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Two comments stand for what is kept elsewhere: the cards of the gallery, and a section of the README."""
    markdown = markdown.replace("<!-- gallery -->", "\n\n".join(map(card_of, EXAMPLES)))
    return re.sub("<!-- README.md: (.*) -->", lambda found: readme_section(found[1]), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """arithmatex marks formulas; a browser shows MathML without a script."""
    return re.sub(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', mathml, content, flags=re.DOTALL)


def on_post_build(config: Any) -> None:
    """No public name is missing from the API: each has a heading on its room's page, or is named there."""
    for name in (ROOT / "tests" / "public_names.txt").read_text(encoding="utf-8").split():
        room, _, own = name.rpartition(".")
        page = Path(config.site_dir, "api", f"{room.removeprefix('spikenet.')}.html")
        if page.exists() and not re.search(rf'id="[\w.]*\.{own}"|<code>{own}</code>', page.read_text(encoding="utf-8")):
            logging.getLogger("mkdocs.docs").warning("%s is on no page of the API", name)


def mathml(found: re.Match[str]) -> str:
    return convert(html.unescape(found[2]), display="inline" if found[1] == "span" else "block")


def readme_section(title: str) -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {title}\n(.*?)(?=^## )", readme, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"README.md has no section {title!r}")
    return found[1]


def pictures(example: Path) -> list[Path]:
    return sorted((KEPT / example.stem).glob("*.png"))


def printed(example: Path) -> str:
    kept = KEPT / example.stem / "printed.txt"
    return kept.read_text(encoding="utf-8") if kept.exists() else "not run yet: python docs/run_examples.py\n"


def told(example: Path) -> tuple[str, str]:
    """The first line of an example's docstring, and the rest."""
    title, _, text = (ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or "").partition("\n")
    return title.removesuffix("."), text


def fenced(language: str, text: str, indent: str = "") -> str:
    return "".join(f"{indent}{line}\n" for line in [f"```{language}", *text.rstrip().split("\n"), "```"])


def card_of(example: Path) -> str:
    """The title, and below it a picture or the first lines that are printed."""
    page, title = f"{example.stem}.md", told(example)[0]
    shown = [f"    [![]({example.stem}/{picture.name})]({page})\n" for picture in pictures(example)[:1]]
    head = "\n".join(line[:72] for line in printed(example).split("\n")[:9])
    return f"-   [{title}]({page})\n\n{''.join(shown) or fenced('text', head, '    ')}"


def page_of(example: Path) -> str:
    title, text = told(example)
    return "\n".join(parts(example, title, text))


def parts(example: Path, title: str, text: str) -> Iterator[str]:
    yield f"# {title}\n{text}\n"
    yield from (f"![{picture.stem}]({example.stem}/{picture.name})\n" for picture in pictures(example))
    yield "The quick form (`--quick`), of which the picture is too, prints:\n"
    yield fenced("text", printed(example))
    yield f'??? example "examples/{example.name}"\n'
    yield fenced("python", example.read_text(encoding="utf-8"), "    ")
