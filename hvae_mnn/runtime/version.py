"""The program's version, which results say."""

from importlib.metadata import version

VERSION = version("hvae-mnn")
