"""Networks as short files: grids, the entropy coder, the search for a good code."""

from recert.compression.file import (
    SUFFIX,
    coded_bits,
    decode,
    encode,
    file_bytes,
    load_program,
    save_program,
)
from recert.compression.integers import code_length_bits
from recert.compression.program import CodedBlock, Grid, Program, program_of, with_values
from recert.compression.search import Candidate, Found, compress

__all__ = [
    "SUFFIX",
    "Candidate",
    "CodedBlock",
    "Found",
    "Grid",
    "Program",
    "code_length_bits",
    "coded_bits",
    "compress",
    "decode",
    "encode",
    "file_bytes",
    "load_program",
    "program_of",
    "save_program",
    "with_values",
]
