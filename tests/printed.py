"""Tables as commands print them."""


def rows(text, title):
    """{first cell: the other cells} of the table with that title."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith(title))
    body = (line for line in lines if not line.startswith(("┏", "┃", "┡", "├")))
    cells = []
    for line in body:
        if line.startswith("└"):
            break
        cells.append([c.strip() for c in line.strip("│").split("│")])
    return {first: rest for first, *rest in cells}
