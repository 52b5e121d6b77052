"""Takes out of a legacy PyTorch file of a whole network what is not the network: `python neutralise.py FILE...`

torch.save writes the source of every class and the path of that source beside it. Both become as many other bytes, so that
every length in the file stays right. Nothing reads them.
"""

import io
import pickletools
import re
import sys

FILL = b"# The source of this class stood here.\n"
# A legacy file begins with five pickles: magic number, protocol, writer's machine, object, keys of its storages.
PICKLES = 5


def other_path(match):
    """As long a path to the usual place; `/.` and `/` add nothing."""
    spare = len(match[0]) - len(b"/usr/local")
    return b"/usr/local" + b"/." * (spare // 2) + b"/" * (spare % 2)


def neutralise(data):
    stream, sources = io.BytesIO(data), []
    for _ in range(PICKLES):
        for opcode, argument, place in pickletools.genops(stream):
            if opcode.name == "BINUNICODE" and argument.startswith("class ") and "\n" in argument:
                # The opcode and a length of four bytes stand before the text.
                sources.append((place + 5, len(argument.encode())))
    data = bytearray(data)
    for start, length in sources:
        data[start : start + length] = (FILL * (length // len(FILL) + 1))[:length]
    return re.sub(rb"/[\w./-]{9,}(?=/lib/python3)", other_path, bytes(data))


for name in sys.argv[1:]:
    with open(name, "rb") as file:
        before = file.read()
    after = neutralise(before)
    assert len(after) == len(before), name
    with open(name, "wb") as file:
        file.write(after)
