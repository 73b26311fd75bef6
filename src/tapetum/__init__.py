"""tapetum: image classifiers that see well in little light."""

__version__ = "0.1.0.dev0"
