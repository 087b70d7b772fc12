"""All numbers and the total gradient of many terms, closed forms or not, by one compiled graph."""

from penaltyscope._compiled._compiler import Compilation, Compiler
from penaltyscope._compiled._repeat import Repeat, Scales, circumstances

__all__ = ["Compilation", "Compiler", "Repeat", "Scales", "circumstances"]
