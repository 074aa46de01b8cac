"""MkDocs hook: pages may link to files of the repository outside of docs/, as plain Markdown does.

Such a file becomes a page or a download of the site below `repository/`, and the links are set to
it. Links of those pages to files that are not part of the site are left as plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FOLDER = "repository"  # of the site, for what lies outside of docs/


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/ that its pages link to."""
    docs = Path(config.docs_dir)
    linked = set()
    for page in files.documentation_pages():
        for _, target, _ in LINK.findall(page.content_string):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page.src_uri), target))
            if path.startswith("../") and (docs / path).is_file():
                linked.add(path[3:])
    for path in sorted(linked):
        source = (docs.parent / path).read_bytes()
        files.append(File.generated(config, f"{FOLDER}/{path}", content=source))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Set links that leave docs/ to the copies in the site."""
    here = page.file.src_uri

    def relink(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        folder = posixpath.dirname(here)
        if here.startswith(f"{FOLDER}/"):  # seen from the root of the repository
            wanted = posixpath.normpath(posixpath.join(folder, target)).removeprefix(f"{FOLDER}/")
            known = wanted.removeprefix("docs/") if wanted.startswith("docs/") else None
            uri = known or f"{FOLDER}/{wanted}"
        else:
            wanted = posixpath.normpath(posixpath.join(folder, target))
            uri = f"{FOLDER}/{wanted[3:]}" if wanted.startswith("../") else wanted
        if files.get_file_from_path(uri) is None:
            return match[0] if not uri.startswith(FOLDER) else text
        return f"[{text}]({posixpath.relpath(uri, folder or '.')}{anchor})"

    return LINK.sub(relink, markdown)
