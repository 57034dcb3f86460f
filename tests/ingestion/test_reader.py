"""The compiled reader takes nothing that Arrow refuses and reads nothing otherwise than Arrow does."""

import json
import math
import struct
import subprocess

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingestion import native
from ingestion.decode import reader, shape
from ingestion.decode.columns import NotColumnar, parse
from ingestion.decode.reader import Reader
from tests.ingestion.compiling import COMPILER, compiled

OBJECT = pa.struct(
    [
        ("asset", pa.string()),
        ("ts", pa.int64()),
        (
            "values",
            pa.struct([("a", pa.float64()), ("ab", pa.float64()), ("Ä", pa.float64()), ("on", pa.bool_())]),
        ),
        ("note", pa.null()),
        ("tags", pa.list_(pa.string())),
        ("meta", pa.struct([("deep", pa.struct([("er", pa.int64())]))])),
    ]
)
LIST = pa.list_(OBJECT)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
)
VALUES = st.one_of(st.floats(), st.integers(-(2**40), 2**40), st.none(), SCALARS)


def fields(*pairs):
    return st.lists(st.one_of(*(st.tuples(st.just(name), value) for name, value in pairs)), max_size=7).map(
        lambda found: Pairs(found)
    )


class Pairs(list):
    """Fields of an object in order, names possibly twice."""


INNER = fields(("a", VALUES), ("ab", VALUES), ("Ä", VALUES), ("on", st.booleans()), ("a", VALUES))
MESSAGE = fields(
    ("asset", st.one_of(st.text(max_size=9), SCALARS)),
    ("ts", st.one_of(st.integers(0, 2**62), SCALARS)),
    ("values", st.one_of(INNER, INNER, SCALARS)),
    ("note", SCALARS),
    ("tags", st.one_of(st.none(), st.just(["x"]))),
    ("meta", st.one_of(st.none(), st.just(Pairs([("deep", Pairs([("er", 5)]))])))),
    ("other", SCALARS),
)
STYLES = st.tuples(st.sampled_from(["", " ", "\t", " \r", "\n"]), st.booleans())


def written(value, style):
    gap, escaped = style
    if isinstance(value, Pairs):
        inside = f"{gap},{gap}".join(
            f"{json.dumps(name, ensure_ascii=escaped)}{gap}:{gap}{written(one, style)}" for name, one in value
        )
        return f"{{{gap}{inside}{gap}}}"
    if isinstance(value, list):
        return f"[{gap}" + f"{gap},{gap}".join(written(one, style) for one in value) + f"{gap}]"
    return json.dumps(value, ensure_ascii=escaped)


def agrees(values, kind):
    """What the reader takes of these messages is what Arrow makes of each; returns how many it took."""
    found = Reader(kind).read(values)
    if found is None:
        return 0
    found.array.validate(full=True)
    taken = np.flatnonzero(~found.odd).tolist()
    for at in taken:
        assert found.array.slice(at, 1).equals(parse([values[at]], kind)), values[at]
    return len(taken)


@pytest.mark.skipif(
    COMPILER is None, reason="no C compiler, and the package is installed without its compiled part"
)
def test_where_there_is_a_compiler_the_package_has_its_compiled_part():
    assert native.library() is not None


@compiled
@pytest.mark.parametrize("style", [("", False), (" ", True), ("\t", False), (" \r", True)])
def test_ordinary_messages_are_taken_and_not_left_to_arrow(style):
    plain = Pairs(
        [
            ("ts", 5),
            ("asset", "Ä" if not style[1] else "p"),
            ("values", Pairs([("ab", -1.5e-3), ("on", True)])),
        ]
    )
    others = [
        Pairs([("values", Pairs([("a", None)])), ("note", None), ("tags", None)]),
        Pairs([("ts", None)]),
    ]
    assert agrees([written(one, style).encode() for one in (plain, *others)], OBJECT) == 3
    assert agrees([written([plain, *others], style).encode(), written([plain], style).encode()], LIST) == 2


@compiled
@given(st.lists(st.tuples(MESSAGE, STYLES), min_size=1, max_size=6))
def test_objects_are_read_as_arrow_reads_them(messages):
    agrees([written(*message).encode() for message in messages], OBJECT)


@compiled
@given(st.lists(st.tuples(st.lists(MESSAGE, max_size=4), STYLES), min_size=1, max_size=5))
def test_lists_are_read_as_arrow_reads_them(messages):
    agrees([written(*message).encode() for message in messages], LIST)


@compiled
@given(
    st.lists(st.tuples(MESSAGE, STYLES), min_size=1, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3)), min_size=1, max_size=3
    ),
    st.booleans(),
)
def test_damaged_messages_are_never_read_otherwise_than_by_arrow(messages, damages, listed):
    values = []
    for message in messages:
        value = written([message[0]] if listed else message[0], message[1]).encode()
        for at, put, gone in damages:
            at = at % (len(value) + 1)
            value = value[:at] + put + value[at + gone :]
        values.append(value)
    agrees(values, LIST if listed else OBJECT)


@compiled
@pytest.mark.parametrize(
    "value",
    [
        b'{"a":1}', b'{"a":-0}', b'{"a":-0.0}', b'{"a":1e5}', b'{"a":1E+05}', b'{"a":0e99}', b'{"a":12345678901234567890}', b'{"a":01}', b'{"a":1.}',
        b'{"a":.5}', b'{"a":+1}', b'{"a":-}', b'{"a":1e}', b'{"a":1e400}', b'{"a":1e-400}', b'{"a":4.9e-324}', b'{"a":2.2250738585072011e-308}', b'{"a":1.7976931348623157e308}',
        b'{"a":NaN}', b'{"a":Infinity}', b'{"a":nul}', b'{"a":nullx}', b'{"a":true}', b'{"a":"1"}', b'{"a":1,}', b'{,"a":1}', b'{"a":1 "b":2}', b'{"a":1;"ab":2}', b'{"a":1:"ab":2}', b'{"a":18446744073709551617}', b'{"n":18446744073709551617}', b'{"a" 1}', b'{"a":1}}',
        b'{"a":1', b'{"a":', b'{"a', b'{', b'', b' ', b'\x00', b'{"a":1}\x00', b'{"a":1}{"a":2}', b'{"a":1}\n{"a":2}', b'\n', b'{"a":1}\n', b'\n{"a":1}', b'[{"a":1}]', b'null',
        b'{"a":1,"a":2}', b'{"a\\u0062":1}', b'{"\\u0061":1}', b'\xef\xbb\xbf{"a":1}', b'{"a":1,"b":2}', b'{"t":"\xff"}', b'{"t":"\x1f"}', b'{"t":"\\n"}', b'{"t":"\xc3\xa4"}',
        b'{"n":1.0}', b'{"n":1e2}', b'{"n":-9223372036854775808}', b'{"n":999999999999999999}', b'{"n":1000000000000000000}', b'{"a":' + b'1' * 400 + b'}', b'{"a":0.' + b'0' * 400 + b'1}',
    ],
)  # fmt: skip
def test_a_message_of_its_own_kind(value):
    kind = pa.struct([("a", pa.float64()), ("ab", pa.float64()), ("t", pa.string()), ("n", pa.int64())])
    agrees([value], kind)
    # Beside others: what is odd must not shift them.
    others = [b'{"a":1}', value, b'{"ab":2,"t":"x"}', value]
    found = Reader(kind).read(others)
    try:
        alone = b"\n" not in value and value.decode() is not None
    except UnicodeDecodeError:
        alone = False
    assert (found is not None) == bool(alone)
    if found is not None:
        assert not found.odd[[0, 2]].any()
        assert found.array.field("a").to_pylist()[0] == 1
        assert found.array.field("ab").to_pylist()[2] == 2
        assert found.array.field("t").to_pylist()[2] == "x"
        agrees(others, kind)


def one(text):
    found = Reader(pa.struct([("a", pa.float64())])).read([b'{"a":%s}' % text.encode()])
    return None if found.odd[0] else found.array.field("a")[0].as_py()


def bits(value):
    return struct.pack("<d", value)


@compiled
@settings(max_examples=2000)
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(5e-324)
@example(-0.0)
@example(9007199254740993.0)
@example(0.0001872055133650594)
def test_every_number_that_python_writes_keeps_its_bits(value):
    found = one(repr(value))
    if 1e-307 < abs(value) < 1e307 or value == 0:
        assert found is not None
    if found is not None:
        assert bits(found) == bits(value)


@compiled
@settings(max_examples=2000)
@given(st.booleans(), st.integers(0, 10**19 - 1), st.integers(0, 19), st.integers(-320, 320))
@example(False, 9007199254740993, 0, 0)
@example(False, 9007199254740993, 0, -1)
@example(False, 4503599627370497, 1, 0)
@example(False, 1152921504606847105, 0, 0)
@example(False, 8, 0, 307)
def test_decimals_are_rounded_to_the_nearest(negative, digits, point, exponent):
    text = str(digits)
    if 0 < point < len(text):
        text = f"{text[:-point]}.{text[-point:]}"
    text = f"{'-' * negative}{text}" + (f"e{exponent}" if exponent else "")
    found = one(text)
    assert found is None or bits(found) == bits(float(text))
    assert found is not None or not -260 < exponent < 260


@compiled
def test_halfway_cases_go_to_the_even_neighbour():
    rng = np.random.default_rng(5)
    for mantissa in rng.integers(2**52, 2**53, 300).tolist():
        # Exactly between two neighbours, and a little beside it.
        for whole in (2 * mantissa + 1, 4 * mantissa + 2, 64 * mantissa + 32):
            for text in (str(whole), str(whole + 1), str(whole - 1), f"{whole}e-2", f"{whole / 2:.1f}"):
                found = one(text)
                assert found is not None
                assert bits(found) == bits(float(text))


@compiled
def test_many_decimals_of_nineteen_digits():
    rng = np.random.default_rng(9)
    texts = [
        f"{digits}e{power}"
        for digits, power in zip(
            rng.integers(10**18, 9 * 10**18, 40_000).tolist(),
            rng.integers(-320, 289, 40_000).tolist(),
            strict=True,
        )
    ]
    found = Reader(pa.struct([("a", pa.float64())])).read([b'{"a":%s}' % text.encode() for text in texts])
    expected = np.array([float(text) for text in texts])
    assert found.odd.mean() < 0.001
    taken = ~found.odd
    assert (found.array.field("a").to_numpy(zero_copy_only=False)[taken] == expected[taken]).all()


def readings(rng, count):
    for i in range(count):
        yield json.dumps({"asset": f"p{i % 3}", "ts": i, "values": {"a": rng.normal(), "ab": i}}).encode()


@pytest.mark.parametrize("odd", [0, 1, 20, 100])
def test_a_group_with_odd_messages_in_it_comes_out_as_arrow_reads_it(odd):
    rng = np.random.default_rng(3)
    values = list(readings(rng, 200))
    for at in rng.choice(200, odd, replace=False).tolist():
        values[at] = values[at].replace(b"p", b"\\u0070")
    known = shape.Shape(100)
    known.parse(values[:50])
    known.keep()
    assert known.parse(values).equals(parse(values, next(iter(known._known.values()))))


def test_a_shape_that_grows_is_read_anew():
    known = shape.Shape(100)
    for name in "abc":
        values = [b'{"%s":%d}' % (name.encode(), i) for i in range(20)]
        assert known.parse(values).field(name).to_pylist() == list(range(20))
        known.keep()
    assert known.parse(values).type.num_fields == 3


def test_without_the_library_everything_is_read_by_arrow(monkeypatch):
    monkeypatch.setattr(reader, "_LIBRARY", None)
    values = list(readings(np.random.default_rng(1), 50))
    known = shape.Shape(100)
    assert known.parse(values).equals(known.parse(values))


def test_what_neither_reads_is_refused():
    known = shape.Shape(100)
    values = list(readings(np.random.default_rng(1), 50))
    known.parse(values)
    known.keep()
    with pytest.raises(NotColumnar):
        known.parse([*values * 3, b'{"asset":1}'])


@compiled
def test_names_in_an_order_of_their_own_cost_no_square():
    names = [f"s{i}" for i in range(3000)]
    kind = pa.struct([(name, pa.float64()) for name in names])
    straight = json.dumps(dict.fromkeys(names, 1.5)).encode()
    turned = json.dumps(dict.fromkeys(reversed(names), 1.5)).encode()
    found = Reader(kind).read([straight, turned])
    assert found.odd.tolist() == [False, True]
    assert math.isclose(found.array.field("s2999")[0].as_py(), 1.5)


def test_a_library_of_another_source_is_not_used(monkeypatch, tmp_path):
    source = tmp_path / "messages.c"
    source.write_bytes(native.SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(native, "SOURCE", source)
    assert native.library() is None
    monkeypatch.setattr(native, "BUILT", tmp_path / "missing.so")
    assert native.library() is None


@pytest.fixture
def checked(tmp_path):
    """Compiles a program with the compiler's checks; skips where the compiler cannot make any such program."""
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

    def build(text):
        source, program = tmp_path / "program.c", tmp_path / "program"
        source.write_text(text)
        done = subprocess.run([COMPILER, *flags, "-o", program, source], capture_output=True, text=True)
        return program, done

    if COMPILER is None or build("int main(void) { return 0; }")[1].returncode:
        pytest.skip("no C compiler with address and undefined-behaviour checks")
    return build


def test_hostile_text_is_read_within_its_bounds(checked):
    """The C code over damaged messages with the compiler's checks for memory and undefined behaviour."""
    program, built = checked(HOSTILE.replace("SOURCE_FILE", str(native.SOURCE)))
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0


HOSTILE = r"""
#include "SOURCE_FILE"
#include <stdio.h>
#include <stdlib.h>
static uint32_t seed = 7;
static uint32_t draw(uint32_t below) { seed = seed * 1664525u + 1013904223u; return (seed >> 8) % below; }
int main(void) {
    /* {"t": text, "v": {"a": real, "n": whole, "b": truth}} */
    const int32_t kind[] = {OBJECT, TEXT, OBJECT, REAL, WHOLE, TRUTH}, slot[] = {0, 0, 1, 0, 0, 0};
    const int32_t first[] = {1, 0, 3, 0, 0, 0}, count[] = {2, 0, 3, 0, 0, 0}, name_from[] = {0, 0, 1, 2, 3, 4, 5};
    uint64_t fives[601][2];
    for (int i = 0; i < 601; i++) fives[i][0] = UINT64_MAX - (uint64_t)i, fives[i][1] = 5;
    struct plan plan = {6, kind, slot, first, count, name_from, (const uint8_t *)"tvanb", &fives[0][0], -300, 300};
    const char *parts[] = {"{", "}", "[", "]", ",", ":", "\"t\":", "\"v\":{", "\"a\":", "\"n\":", "\"b\":", "\"x\"", "1", "-", "0.5", "e", "1e999", "99999999999999999999",
        "123456789012345678", "true", "tru", "false", "null", "nul", " ", "\n", "\\", "\"", "\x01", "\xff", "{\"t\":\"x\",\"v\":{\"a\":1.25,\"n\":7,\"b\":true}}"};
    long long taken = 0;
    for (int run = 0; run < 60000; run++) {
        char made[2048]; size_t size = 0; int64_t lines = 1;
        for (uint32_t i = draw(30); i-- > 0;) {
            const char *part = parts[draw(2) ? 30 : draw(31)];
            size_t length = strlen(part);
            if (draw(9) == 0) length = draw((uint32_t)length + 1);
            memcpy(made + size, part, length); size += length;
            if (draw(3) == 0) made[size++] = '\n', lines++;
        }
        made[size++] = '\n';
        if (draw(4) == 0) lines += (int64_t)draw(3) - 1;
        if (lines < 1) lines = 1;
        int32_t listed = (int32_t)draw(2);
        int64_t most = listed ? (int64_t)draw(12) + 1 : lines;
        /* Everything exactly as large as agreed, so that one step beyond it is seen. */
        uint8_t *text = malloc(size + 8); memcpy(text, made, size); memset(text + size, 0, 8);
        size_t m = (size_t)most, l = (size_t)lines;
        struct columns columns = {most, malloc(m * 8), malloc(m * 8), malloc(m * 4), malloc(m * 4), malloc(m), calloc(6, m)};
        int64_t *rows = malloc(l * 8); uint8_t *odd = malloc(l); int32_t *guess = malloc(6 * 4);
        int64_t found = read_messages(&plan, &columns, text, (int64_t)size, listed, lines, rows, odd, guess);
        if (found > most) return 3;
        if (found > 0) {
            int32_t *offsets = malloc(((size_t)found + 1) * 4); uint8_t *out = malloc(size);
            gather_texts(text, columns.begins, columns.ends, columns.sent + m, found, offsets, out);
            taken += found; free(offsets); free(out);
        }
        free(text); free(columns.reals); free(columns.wholes); free(columns.begins); free(columns.ends);
        free(columns.truths); free(columns.sent); free(rows); free(odd); free(guess);
    }
    printf("%lld\n", taken);
    return 0;
}
"""
