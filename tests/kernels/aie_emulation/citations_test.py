"""Every public name of the emulated AIE API says which documented behaviour it follows.

A citation is a comment "AIE API, Page, entry: …" and heads the declarations up to the next blank line; what the API
does not have is marked "Emulation: …".
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HEADERS = sorted((Path(__file__).resolve().parents[3] / "kernels/aie_emulation").glob("*.h"))

# The titles of the documentation's pages (aie_doc.hpp, detail/mmul.hpp of Xilinx/aie_api), or a class or function.
PAGE = (
    r"Basic Types|Basic Type Initialization|Vector and Accumulator Conversions|Accumulator Element Types|Memory|"
    r"Initialization|Arithmetic|Bits|Comparison|Reduction|Reshaping|Floating-point Conversion|Elementary Functions|"
    r"Matrix Multiplication|aie::\w+"
)
CITATION = re.compile(rf"\s*(public:\s*)?// (AIE API, ({PAGE})\b|Emulation:)")


def uncited(header: str) -> list[str]:
    """The first lines of the paragraphs of namespace aie that declare something public and cite nothing."""
    public = "\n\n".join(re.findall(r"^namespace aie {\n(.*?)^}  // namespace aie$", header, re.S | re.M))
    public = re.sub(r"^namespace detail {\n.*?^}  // namespace detail$", "", public, flags=re.S | re.M)
    paragraphs = [p for p in re.split(r"\n\s*\n", public) if re.search(r"[{=(]", p)]
    return [
        p.strip().splitlines()[0] for p in paragraphs if not CITATION.match(p) and not p.strip().startswith("private:")
    ]


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_every_public_name_cites(header: Path) -> None:
    assert uncited(header.read_text()) == []


def test_what_cites_nothing_is_found() -> None:
    header = """namespace aie {

// AIE API, Bits, bit_not: ~v[i].
inline int bit_not(int v) { return ~v; }
inline int covered(int v) { return v; }

inline int forgotten(int v) { return v; }

// AIE API, A page that is not there: x.
class wrong {
 public:
  // AIE API, aie::vector: get.
  int get() const { return 0; }

  int also_forgotten() const { return 0; }

 private:
  int value_ = 0;
};

}  // namespace aie
"""
    assert uncited(header) == [
        "inline int forgotten(int v) { return v; }",
        "// AIE API, A page that is not there: x.",
        "int also_forgotten() const { return 0; }",
    ]
