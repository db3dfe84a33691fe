"""Hook of .mkdocs.yml: links to files of the checkout that are no pages (job scripts, presets) become their plain words;
on the repository's own pages they stay links."""
import re


def on_page_markdown(markdown, **_):
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)
