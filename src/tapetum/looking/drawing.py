"""stub"""


def svg(summary, channels, size, title, crossings=()):
    return '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"></svg>'


def write_svg(*a, **k):
    raise NotImplementedError
