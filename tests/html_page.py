"""A page as html.parser reads it."""

from html.parser import HTMLParser


class HtmlPage(HTMLParser):
    """The names of a page's elements, its text, and the cells of its tables by row."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.rows, self.in_cell = [], "", [], False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.in_cell = tag in ("td", "th")
        if self.in_cell:
            self.rows[-1].append("")
        elif tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        self.in_cell = False

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data
