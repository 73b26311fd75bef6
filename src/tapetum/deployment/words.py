"""The preprocessing in words, for whoever computes a classifier without tapetum."""

from tapetum.data.prepare import LUMA, Preprocessing

_FITS = {
    "crop": "Resize it so that its shorter side is {resize} pixels (the longer in proportion, cut to whole pixels), and cut "
    "out its middle, {side} x {side}.",
    "pad": "Resize it so that its longer side is {side}, and put it into the middle of a grey (128) square of that side.",
    "center": "If its longer side is over {side}, resize it to that. Put it into the middle of a square of that side, and "
    "fill the rest by repeating its border.",
    "squash": "Resize it to {side} x {side}, whatever its proportions.",
}


def steps(preprocessing: Preprocessing, uint8: bool) -> list[str]:
    """What is done to a picture file before it goes into the graph, a sentence or two a step.

    `uint8`: the squares go in as they are; otherwise the last step makes numbers of them.
    """
    side, channels = preprocessing.side, preprocessing.channels
    found = [
        "Decode the file to 8-bit RGB, upright by its EXIF orientation; what is transparent is white.",
        f"If its shorter side is over {preprocessing.reduce} pixels, resize it to that, in proportion.",
        _FITS[preprocessing.fit].format(resize=preprocessing.resize, side=side),
        "Each resizing is bilinear with antialiasing, rounded to 8 bits, as Pillow's BILINEAR.",
    ]
    if uint8:
        return [*found, f"Give the squares as uint8 (N, {side}, {side}, 3)."]
    grey = "" if channels == 3 else " Make one channel of them: {} R + {} G + {} B.".format(*LUMA)
    mean, std = (", ".join(f"{v:.6g}" for v in values[:channels]) for values in (preprocessing.mean, preprocessing.std))
    return [
        *found,
        f"Divide by 255.{grey} Subtract the mean ({mean}) and divide by the deviation ({std}) of each channel.",
        f"Give the images as float32 (N, {channels}, {side}, {side}).",
    ]
