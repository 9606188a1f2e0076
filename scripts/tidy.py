#!/usr/bin/env python3
"""House rules of the source tree that no compiler checks. `tidy.py` checks the tree it lies in,
`tidy.py --root DIR` another one, `tidy.py --self-test` plants a violation of every rule and demands
that it is found.

Rules: include floors (only downwards, rooms on one floor do not see each other), pure cores, fenced
libraries, includes named from the repository root, 100 columns, 600 lines a file, 70 lines a
function, a comment on top of each header, no file(GLOB).
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

COLUMNS_MAX = 100
LINES_MAX = 600
FUNCTION_LINES_MAX = 70

# Floor by folder; the longest prefix wins.
FLOORS = {
    "common/base": 0,
    "common/log": 1,
    "common/model": 1,
    "common/merkle": 1,
    "common/shm": 2,
    "common/process": 2,
    "common/audit": 3,
    "common/role": 3,
    "common/rpc": 3,
    "reeve/v1": 3,  # generated from proto/
    "scheduler/core": 2,  # pure: the rooms above ask it the same questions
    "plm": 4,
    "scheduler": 4,
    "register": 4,
    "worker": 4,
    "cli": 5,
    "tests": 6,
}
# Same floor, and yet one may see the other.
NEIGHBOURS = {("common/rpc", "reeve/v1")}
PURE = ("scheduler/core", "register/core")
PURE_MAY_SEE = ("common/base", "common/model")
FENCES = {
    "grpc": ("common/rpc", "plm", "register", "worker", "cli", "tests"),
    "boost/interprocess": ("common/shm", "tests"),
}
CODE = (".h", ".cc")
WIDE_TEXT = (".h", ".cc", ".py", ".proto", ".cmake", ".sh")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')
SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b[^()]*$")
NOT_A_FUNCTION = re.compile(r"\b(if|for|while|switch|catch|do|else|return)\b\s*\(?|=\s*$|\]\s*$")


def room_of(path):
    """The folder of FLOORS a path or include lies in, or None."""
    found = [room for room in FLOORS if path == room or path.startswith(room + "/")]
    return max(found, key=len) if found else None


def inside(path, folders):
    return any(path.startswith(folder + "/") for folder in folders)


def check_include(path, quote, target, root):
    """What is wrong with one include line of `path`, or None."""
    for library, folders in FENCES.items():
        fenced = target.startswith(library + "/") or (
            library == "grpc" and target.startswith("grpc") and quote == "<")
        if fenced and not inside(path, folders):
            return f"<{library}*> is fenced: only {', '.join(folders)} may include it"
    if quote == "<":
        return None
    here, there = room_of(path), room_of(target)
    if there is None:
        return f'"{target}" is not named from the repository root'
    generated = there == "reeve/v1"
    if not generated and not (root / target).is_file():
        return f'"{target}" does not exist'
    pure = next((folder for folder in PURE if path.startswith(folder + "/")), None)
    if pure and there not in PURE_MAY_SEE and not target.startswith(pure + "/"):
        return f"{pure} is pure: only {' and '.join(PURE_MAY_SEE)}, not {target}"
    if here is None or here == there or (here, there) in NEIGHBOURS:
        return None
    if FLOORS[there] > FLOORS[here]:
        return f"{here} (floor {FLOORS[here]}) may not look up to {target}"
    if FLOORS[there] == FLOORS[here]:
        return f"{here} and {there} are rooms on one floor and may not see each other"
    return None


def without_comments_and_strings(text):
    """The same text, line by line, with comments and literals blanked."""
    pattern = re.compile(
        r'R"(?P<tag>[^(\s]*)\(.*?\)(?P=tag)"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'", re.S)
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))
    text = pattern.sub(blank, text)
    return re.sub(r"^[ \t]*#[^\n]*(\\\n[^\n]*)*", blank, text, flags=re.M)


def function_lengths(text):
    """(first line, lines) of each function body: braces outside of which only scopes are open."""
    text = without_comments_and_strings(text)
    stack, head, line, lengths = [], "", 1, []
    for character in text:
        if character == "\n":
            line += 1
        if character == "{":
            scopes_only = all(kind == "scope" for kind, _ in stack)
            if SCOPE.search(head) and "(" not in head.split("struct")[-1]:
                kind = "scope"
            elif scopes_only and ")" in head and not NOT_A_FUNCTION.search(head):
                kind = "function"
            else:
                kind = "other"
            stack.append((kind, line))
            head = ""
        elif character == "}":
            if stack:
                kind, first = stack.pop()
                if kind == "function":
                    lengths.append((first, line - first + 1))
            head = ""
        elif character == ";":
            head = ""
        else:
            head += character
    return lengths


def check_text(path, text):
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    if len(lines) > LINES_MAX:
        yield 1, f"{len(lines)} lines; at most {LINES_MAX} a file"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX:
            yield number, f"{len(line)} columns; at most {COLUMNS_MAX}"
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
        if "\t" in line:
            yield number, "a tab; use spaces"


def check_header(lines):
    pragma = next((i for i, line in enumerate(lines) if line.startswith("#pragma once")), None)
    if pragma is None:
        yield 1, "a header without #pragma once"
    if not lines or not re.match(r"//\s*\S", lines[0]):
        yield 1, "a header opens with a comment that says what it is for"


def check_file(root, path):
    """(line, message) for everything wrong with one file."""
    full = root / path
    try:
        text = full.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        yield 1, "not UTF-8"
        return
    cmake = full.name == "CMakeLists.txt" or full.suffix == ".cmake"
    if full.suffix in WIDE_TEXT or cmake:
        yield from check_text(path, text)
    lines = text.split("\n")
    if cmake:
        for number, line in enumerate(lines, 1):
            if re.search(r"\bfile\s*\(\s*GLOB", line.split("#")[0], re.I):
                yield number, "file(GLOB ...): list the files"
    if full.suffix not in CODE:
        return
    if full.suffix == ".h":
        yield from check_header(lines)
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match:
            wrong = check_include(path, match.group(1), match.group(2), root)
            if wrong:
                yield number, wrong
    if not path.startswith("tests/"):
        for first, length in function_lengths(text):
            if length > FUNCTION_LINES_MAX:
                yield first, f"a function of {length} lines; at most {FUNCTION_LINES_MAX}"


def source_files(root):
    """Tracked and new files, but nothing git ignores."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={root}", "-C", str(root), "ls-files", "-z", "--cached",
         "--others", "--exclude-standard"], capture_output=True, check=False)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:  # an unpacked archive
        names = [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]
        names = [name for name in names if not name.startswith(("build/", ".git/"))]
    return sorted(name for name in names if (root / name).is_file())


def check_tree(root):
    return [f"{path}:{line}: {message}"
            for path in source_files(root)
            for line, message in check_file(root, path)]


class SelfTest(unittest.TestCase):
    """Each rule is shown a violation, and the same thing done right."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.directory.name)
        for header in ("common/base/a.h", "common/model/a.h", "common/shm/a.h", "plm/a.h",
                       "scheduler/core/a.h", "common/log/a.h", "common/rpc/a.h"):
            self.write(header, "// A header.\n#pragma once\n")

    def tearDown(self):
        self.directory.cleanup()

    def write(self, path, text):
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text, encoding="utf-8")

    def found(self, path, text):
        self.write(path, text)
        return [line for line in check_tree(self.root) if line.startswith(path + ":")]

    def refused(self, path, text, word):
        found = self.found(path, text)
        self.assertTrue(any(word in line for line in found), f"{path}: {found}")

    def accepted(self, path, text):
        self.assertEqual(self.found(path, text), [])

    def test_floors(self):
        self.refused("common/base/x.cc", '#include "common/log/a.h"\n', "look up")
        self.refused("common/shm/x.cc", '#include "plm/a.h"\n', "look up")
        self.refused("common/log/x.cc", '#include "common/model/a.h"\n', "one floor")
        self.refused("worker/x.cc", '#include "plm/a.h"\n', "one floor")
        self.accepted("plm/x.cc", '#include "common/shm/a.h"\n#include "plm/a.h"\n')
        self.accepted("cli/x.cc", '#include "plm/a.h"\n')
        self.accepted("tests/unit/x.cc", '#include "plm/a.h"\n')
        self.accepted("common/rpc/x.cc", '#include "reeve/v1/reeve.pb.h"\n')

    def test_pure_cores(self):
        self.refused("scheduler/core/x.cc", '#include "common/shm/a.h"\n', "pure")
        self.refused("scheduler/core/y.cc", '#include "plm/a.h"\n', "pure")
        self.refused("register/core/x.cc", '#include "common/log/a.h"\n', "pure")
        self.accepted("scheduler/core/z.cc",
                      '#include "scheduler/core/a.h"\n#include "common/model/a.h"\n')

    def test_fences(self):
        self.refused("scheduler/core/x.cc", "#include <grpcpp/grpcpp.h>\n", "fenced")
        self.refused("scheduler/x.cc", "#include <grpc/grpc.h>\n", "fenced")
        self.refused("plm/x.cc", "#include <boost/interprocess/mapped_region.hpp>\n", "fenced")
        self.accepted("common/shm/x.cc", "#include <boost/interprocess/mapped_region.hpp>\n")
        self.accepted("common/rpc/x.cc", "#include <grpcpp/grpcpp.h>\n")

    def test_include_paths(self):
        self.refused("plm/x.cc", '#include "a.h"\n', "repository root")
        self.refused("plm/y.cc", '#include "plm/missing.h"\n', "does not exist")

    def test_shape_of_files(self):
        self.refused("plm/x.cc", "// " + "x" * 98 + "\n", "columns")
        self.accepted("plm/x.cc", "// " + "\u00e9" * 97 + "\n")
        self.refused("plm/y.cc", "int x;\n" * 601, "lines")
        self.accepted("plm/y.cc", "int x;\n" * 600)
        self.refused("plm/z.cc", "int x; \n", "blanks")
        self.refused("plm/t.cc", "\tint x;\n", "tab")

    def test_headers(self):
        self.refused("plm/x.h", "#pragma once\n// Late.\n", "opens with a comment")
        self.refused("plm/y.h", "// No guard.\n", "#pragma once")

    def test_glob(self):
        self.refused("plm/CMakeLists.txt", "file(GLOB sources *.cc)\n", "GLOB")
        self.accepted("plm/CMakeLists.txt", "# no file(GLOB here\nadd_library(x a.cc)\n")

    def test_long_functions(self):
        body = "    x += 1;\n" * 70
        long_one = "namespace reeve {\nvoid f(int x,\n       int y) {\n" + body + "}\n}\n"
        self.refused("plm/x.cc", long_one, "function of 72")
        inner = "struct S {\n    int f() const {\n" + body + "    }\n};\n"
        self.refused("plm/y.cc", inner, "function of 72")
        many = "void f() {\n" + "    x += 1;\n" * 40 + "}\n"
        self.accepted("plm/z.cc", "namespace a {\n" + many * 3 + "}\n")
        table = "const Row kRows[] = {\n" + '    {"a", f(1)},\n' * 100 + "};\n"
        self.accepted("plm/w.cc", table)


def main():
    parser = argparse.ArgumentParser(description="house rules of the source tree")
    parser.add_argument("--root", default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    arguments = parser.parse_args()
    if arguments.self_test:
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(SelfTest)
        return 0 if unittest.TextTestRunner().run(suite).wasSuccessful() else 1
    wrong = check_tree(pathlib.Path(arguments.root))
    for line in wrong:
        print(line)
    if wrong:
        print(f"tidy: {len(wrong)} violations", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
