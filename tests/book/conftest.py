import re

from execute import BOOK, convert, find_sources


def pytest_terminal_summary(terminalreporter):
    """Say how much prose there is: about ten words for each line of code is right."""
    ratios = {}
    for source in find_sources():
        text = {"markdown": "", "code": ""}
        for cell in convert(source).cells:
            text[cell.cell_type] += cell.source + "\n"
        lines = len(re.findall(r"^.*\S.*$", text["code"], re.MULTILINE))
        words = len(text["markdown"].split())
        ratios[source.relative_to(BOOK).as_posix()] = words / max(lines, 1)
    if ratios:
        terminalreporter.section("words of prose for each line of code")
        for name, ratio in sorted(ratios.items(), key=lambda item: item[1]):
            terminalreporter.write_line(f"{ratio:5.1f}  {name}")
