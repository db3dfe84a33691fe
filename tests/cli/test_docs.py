"""The documents against the program: examples are the files that are tested, links and anchors exist, options and tests
that are named exist, quoted messages are the program's, and the site builds without a warning where mkdocs is."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import harness

ROOT = harness.SOURCE
DOCS = ROOT / "docs"
failures = []


def check(condition, words):
    if not condition:
        failures.append(words)
        print("FAILED", words)


def plain(text):
    """Without code blocks and code words."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def anchors_of(path):
    """Anchors of a page's headings, as its site and GitHub make them."""
    found = set()
    for line in re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M).splitlines():
        if line.startswith("#"):
            words = re.sub(r"[^\w\s-]", "", line.lstrip("#").strip().lower())
            found.add(re.sub(r"[-\s]+", "-", words))
    return found


def check_links(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", plain(page.read_text())):
        if re.match(r"(https?|mailto):", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        check(path.exists(), f"{page.name}: nothing is at {target}")
        if anchor and path.exists():
            check(anchor in anchors_of(path), f"{page.name}: {target}: no such heading")


def check_examples():
    text = (DOCS / "analysis.md").read_text()
    shown = re.findall(r"^\[examples/(\S+)\]\(examples/\1\):\n\n```(?:python|r)\n(.*?)```$", text, re.S | re.M)
    check(shown, "analysis.md shows no example")
    for name, code in shown:
        file = DOCS / "examples" / name
        check(file.exists() and file.read_text() == code, f"analysis.md: its text of examples/{name} is not the file's")
    files = {path.name for path in (DOCS / "examples").iterdir() if path.suffix in (".py", ".R")}
    check(files == {name for name, _ in shown}, f"examples that analysis.md leaves out: {files - {n for n, _ in shown}}")


def commands_of(text):
    """lvsweep's command lines in code blocks and code words."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    for line in lines + words:
        line = re.sub(r"\s#.*", "", line)
        for command in re.findall(r"(?:^\s*|\$ |-n \d+ )lvsweep ([^|;<>()]+)", line):
            yield command.split()


def check_commands(page):
    """Subcommands exist; their options are those of their help."""
    for words in commands_of(page.read_text()):
        name = words[0]
        if "/" in name or name.endswith((".ini", ":")) or name.startswith(("-", "…", ".", "COMMAND")):
            name = "run"
        if not re.fullmatch(r"[a-z]+", name):
            continue
        text = HELP.get(name)
        if text is None and words[1:2] == ["with"]:
            continue  # what a job script prints
        check(text is not None, f"{page.name}: no subcommand {name}: lvsweep {' '.join(words)}")
        for word in words[1:]:
            option = word.split("=")[0].split("|")[0].rstrip(",")
            if re.fullmatch(r"--[a-z][a-z-]+", option) and text is not None:
                check(option in text or option == "--help", f"{page.name}: lvsweep {name} has no {option}")


def check_tests(page, registered):
    """Test names after ctest -R are registered, or would be with the longer tests."""
    for pattern in re.findall(r"ctest (?:--test-dir \S+ )?-R '?([\w|]+)'?", page.read_text()):
        for part in pattern.split("|"):
            check(any(part in name for name in registered), f"{page.name}: ctest -R {part}: no such test")


def literals():
    """Every string of the sources as one text each, conversions as "…"."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.[ch]")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        # A macro between two literals stands for some text.
        for run in re.findall(r'(?:"(?:[^"\\\n]|\\.)*"(?:\s+|\s*[A-Z_a-z0-9]+\s*(?="))?)+', text):
            joined = "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', run))
            found.append(joined.replace('\\"', '"'))
    return found


def check_messages():
    """Every message that troubleshooting.md quotes is in the sources, word for word."""
    sources, count = literals(), 0
    for line in (DOCS / "troubleshooting.md").read_text().splitlines():
        match = re.match(r"\| `(.+?)` \|", line)
        if not match:
            continue
        count += 1
        pieces = [piece for piece in match.group(1).replace("results.h5", "…").split("…") if piece.strip()]
        pattern = re.compile(".*?".join(re.escape(piece.strip()) for piece in pieces), re.S)
        check(any(pattern.search(source) for source in sources), f"troubleshooting.md: no message says: {match.group(1)}")
    check(count > 60, "troubleshooting.md quotes hardly any message")
    return count


def tables_of(text):
    """Section -> rows of its first table."""
    parts = re.split(r"^### (\[.*\])$", text, flags=re.M)
    return {name: re.findall(r"(?:^\|.*\n)+", body, re.M)[0].splitlines() for name, body in zip(parts[1::2], parts[2::2])}


def check_reference():
    """The tables of config.md are those that the program writes."""
    written = tables_of(harness.run(0, "init", "--reference").stdout)
    shown = tables_of((DOCS / "config.md").read_text())
    check(written.keys() == shown.keys(), f"config.md: sections {written.keys() ^ shown.keys()}")
    for section in written.keys() & shown.keys():
        for row in set(written[section]) ^ set(shown[section]):
            check(False, f"config.md: {section}: `lvsweep init --reference` differs: {row}")
        check(written[section] == shown[section], f"config.md: {section}: rows in another order")


def check_site():
    if not shutil.which("mkdocs"):
        print("skipped: the site (Debian and Ubuntu: apt install mkdocs)")
        return
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mkdocs", "build", "--strict", "-f", str(ROOT / ".mkdocs.yml"), "-d", folder], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ, LC_ALL="C.UTF-8"))
        said = "\n".join(line for line in done.stdout.splitlines() if not line.startswith("INFO"))
        check(done.returncode == 0, f"mkdocs --strict: {said}")
        pages = {path.stem for path in DOCS.glob("*.md")}
        built = {path.stem for path in pathlib.Path(folder).glob("*.html")}
        check(pages <= built, f"pages that the site lacks: {pages - built}")
        nav = (ROOT / ".mkdocs.yml").read_text()
        check(all(f"{page}.md" in nav for page in pages), "a page is in no menu of .mkdocs.yml")


names = re.findall(r"^  (\w+) +\w", harness.run(0, "--help").stdout.split("alone\n\n")[1], re.M)
HELP = {name: harness.run(0, "help", name).stdout for name in names}
registered = set()
for path in (ROOT / "tests").rglob("CMakeLists.txt"):
    text = path.read_text()
    registered |= set(re.findall(r"\w+", text))
    for loop, body in re.findall(r"foreach\((\w+ [^)]*)\)(.*?)endforeach", text, re.S):
        variable, *values = loop.split()
        for template in re.findall(r"(\w*)\$\{" + variable + r"\}", body):
            registered |= {template + value for value in values}
    registered |= {f"cli_{value}" for value in re.findall(r"\w+", text)} if path.parent.name == "cli" else set()

pages = sorted(DOCS.glob("*.md")) + [ROOT / "README.md"]
for page in pages:
    check_links(page)
    check_commands(page)
    check_tests(page, registered)
check_examples()
check_reference()
messages = check_messages()
check_site()
print(f"{len(pages)} pages, {messages} messages, {len(failures)} failures")
sys.exit(1 if failures else 0)
